"""One frozen dataclass per command, checked when built; all problems are reported at once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from kdaudit.errors import ConfigError, did_you_mean
from kdaudit.foreign import is_file, read_text, reason
from kdaudit.waivers import Waiver, expired, read_waivers

MAX_BYTES = 2**22  # of a configuration file
MAX_DOTTED = 5 * 10**7  # squares of the dots in each of its lines: one of 7,000, or a thousand gates in each of ten
LOADS = ("4bit", "8bit")
DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda", "mps")
"""Of a report, in the order in which they are written."""
TOLERANCE = 0.02
"""How far an AUC may rise above the baseline's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditConfig:
    """Everything that decides an audit's numbers, as the user gave it."""

    teacher: str
    students: tuple[str, ...]
    members: str | None = None
    nonmembers: str | None = None
    train: str | None = None
    """The students' training file, where it is no longer where their manifest says."""
    manifest: Path | None = None
    """Of the first student, where it does not lie in its folder."""
    key_file: Path | None = None
    """Key of the manifest's record ids, where it does not lie beside the training file."""
    shots: str | None = None
    text_field: str = "text"
    id_field: str = "id"
    teacher_reference: str | None = None
    student_references: tuple[str | None, ...] = ()
    """One per student, or one for all of them; None: what the student's manifest says, if it has one."""
    attacks: tuple[str, ...] = ()
    out: Path = Path("kdaudit-run")
    gates: tuple[str, ...] = ()
    seed: int = 0
    max_tokens: int | None = None
    limit: int | None = None
    """Records per class, drawn by the seed."""
    batch_tokens: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    n_shots: int = 12
    calibration_share: float = 0.3
    teacher_load: str | None = None
    student_load: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    paper_compat: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: lists every problem, one a line.
        """
        problems = list(_problems(self))
        if problems:
            raise ConfigError("\n".join(problems), hint="kdaudit attack --help lists the options")

    @property
    def reference_of(self) -> dict[str, str | None]:
        """The reference checkpoint of every audited model, by model name."""
        names = student_names(len(self.students))
        return {"teacher": self.teacher_reference, **dict(zip(names, self.references_by_student, strict=True))}

    @property
    def references_by_student(self) -> tuple[str | None, ...]:
        """One for every student."""
        given = self.student_references
        return given * len(self.students) if len(given) == 1 else given or (None,) * len(self.students)

    def identity(self) -> dict[str, Any]:
        """What a run folder must share with this configuration to be continued by it.

        Gates and the folder itself change no measurement; checkpoints and records count by their contents,
        not by their names.
        """
        names = {"teacher", "students", "teacher_reference", "student_references", "members", "nonmembers", "shots"}
        names |= {"train", "manifest", "key_file"}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name not in names | {"out", "gates", "overwrite"}
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """What a report is made of, as the user gave it."""

    runs: tuple[Path, ...]
    """Run folders, or results files."""
    formats: tuple[str, ...] = ("html", "md")
    out: Path | None = None
    """None: beside the results of the first run."""
    gates: tuple[str, ...] = ()
    """None given: each run keeps the gates that it was measured with."""
    gates_file: Path | None = None
    """The configuration file that declares the gates; None where they were given otherwise."""
    template: Path | None = None
    baseline: Path | None = None
    """An earlier run, as folder or results file: no AUC may rise above its by more than `tolerance`."""
    tolerance: float | None = None
    """None: TOLERANCE."""
    waivers: tuple[Waiver, ...] = ()
    file_gates: tuple[str, ...] = ()
    """Gates of the configuration file, judged or not: its waivers may name them."""
    model_card: Path | None = None
    """An existing README.md whose section is rewritten."""
    model_index: bool = False
    from_file: frozenset[str] = frozenset()
    """Fields that the configuration file decides: a comparison of mitigations leaves those that are for audits."""
    today: date = date.min
    """Waivers whose last day is before it are refused."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: lists every problem, one a line.
        """
        problems = []
        if not self.runs:
            problems.append("RUN: no run is given")
        if not self.formats and self.template is None:
            problems.append("--format: none is given, and no --template: there is nothing to write")
        if any(not gate.strip() for gate in self.gates):
            problems.append("--gate: an empty value was given; is a variable unset?")
        if self.model_card and len(self.runs) > 1:
            problems.append("--model-card: a card is about one run; give one RUN")
        if self.model_index and not self.model_card:
            problems.append("--model-index is given but --model-card is not: there is no metadata to extend")
        if self.tolerance is not None and not 0 <= self.tolerance <= 1:
            problems.append(f"--tolerance: {self.tolerance} lies outside 0 to 1")
        if self.tolerance is not None and self.baseline is None:
            problems.append("--tolerance is given but --baseline is not: there is nothing to rise above")
        if problems:
            raise ConfigError("\n".join(problems), hint="kdaudit report --help lists the options")
        if over := expired(self.waivers, self.today):
            raise ConfigError("\n".join(over), hint="keep the limit again, or decide anew and set a later date")


def name_models(names: Sequence[str], joint: str = ", ") -> str:
    """Names of models for a sentence; of more than three the first and the last one."""
    return joint.join(names) if len(names) <= 3 else f"{names[0]} to {names[-1]}"


def student_names(n_students: int) -> tuple[str, ...]:
    """The names that students carry in results and gates: student, student-2, student-3."""
    return tuple("student" if i == 0 else f"student-{i + 1}" for i in range(n_students))


def _problems(config: AuditConfig) -> Iterable[str]:
    if not config.students:
        yield "--student: at least one student is needed"
    for name in ("train", "key_file"):
        if config.members is not None and getattr(config, name) is not None:
            yield f"--{name.replace('_', '-')}: serves a student's manifest; --members already says who was a member"
    if (config.members is None) != (config.nonmembers is None) and not (config.train and config.nonmembers):
        given, missing = ("--members", "--nonmembers") if config.members else ("--nonmembers", "--members")
        yield (
            f"{given} is given but {missing} is not: an audit compares the two (with --train FILE, --nonmembers says "
            "where a manifest's non-members moved to)"
        )
    if len(config.student_references) not in {0, 1, len(config.students)}:
        yield (
            f"--student-reference: {len(config.student_references)} given, but {len(config.students)} of --student; "
            "give one for each, in the same order, or one for all"
        )
    yield from _empty_settings(config)
    if config.id_field == config.text_field:
        yield f"--id-field: '{config.id_field}' is the field of the text, and ids stand in the run's files"
    minimum = {"max_tokens": 2, "limit": 1, "batch_tokens": 1, "n_shots": 1}
    for name, least in minimum.items():
        value = getattr(config, name)
        if value is not None and value < least:
            yield f"--{name.replace('_', '-')}: {value} is too small, the least is {least}"
    if config.seed < 0:
        yield f"--seed: {config.seed} is negative"
    if not 0.05 <= config.calibration_share <= 0.95:
        yield f"--calibration-share: {config.calibration_share} lies outside 0.05 to 0.95"
    choices = {"device": DEVICES, "dtype": DTYPES, "teacher_load": LOADS, "student_load": LOADS}
    for name, allowed in choices.items():
        value = getattr(config, name)
        if value is not None and value not in allowed and not (name == "device" and value.startswith("cuda:")):
            listed = ", ".join((*allowed, "cuda:N") if name == "device" else allowed)
            yield f"--{name.replace('_', '-')}: '{value}' is none of {listed}"


def _empty_settings(config: AuditConfig) -> Iterable[str]:
    for name, option in _TEXT_OPTIONS.items():
        value = getattr(config, name)
        given = value if isinstance(value, tuple) else () if value is None else (value,)
        if any(text is not None and not text.strip() for text in given):
            yield f"{option}: an empty value was given; is a variable unset?"


_TEXT_OPTIONS = {
    "teacher": "--teacher",
    "students": "--student",
    "members": "--members",
    "nonmembers": "--nonmembers",
    "train": "--train",
    "shots": "--shots",
    "teacher_reference": "--teacher-reference",
    "student_references": "--student-reference",
    "attacks": "--attack",
    "gates": "--gate",
    "text_field": "--text-field",
    "id_field": "--id-field",
}


def find_config_file(folder: Path) -> Path | None:
    """The configuration that applies in `folder`: kdaudit.toml, else a pyproject.toml with [tool.kdaudit]."""
    own = folder / "kdaudit.toml"
    if is_file(own):
        return own
    project = folder / "pyproject.toml"
    return project if is_file(project) and "kdaudit" in _table(_parse(project), "tool", project) else None


def read_config_file(path: Path, *, known: Mapping[str, type]) -> dict[str, Any]:
    """The settings in a kdaudit.toml, or under [tool.kdaudit] of a pyproject.toml.

    Args:
        path: the file.
        known: the keys that a command takes, written with underscores, each with the type of its value;
            Waiver for an array of tables, which comes back as a tuple of them.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value has another type.
    """
    table = _parse(path)
    if path.name == "pyproject.toml":
        table = _table(_table(table, "tool", path), "kdaudit", path)
    settings: dict[str, Any] = {}
    for raw_key, value in table.items():
        key = raw_key.replace("-", "_")
        if key not in known:
            hint = did_you_mean(key, known, otherwise=f"known keys: {', '.join(sorted(known))}")
            raise ConfigError(f"{path}: unknown key '{raw_key}'", hint=hint)
        if known[key] is Waiver:
            settings[key] = read_waivers(value, path)
            continue
        _check_type(path, raw_key, value, known[key])
        settings[key] = value
    return settings


_TYPE_WORDS = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list of strings",
}
_TYPE_EXAMPLES = {
    str: '{key} = "…"',
    int: "{key} = 1",
    float: "{key} = 0.5",
    bool: "{key} = true",
    list: '{key} = ["…"]',
}


def _check_type(path: Path, key: str, value: object, wanted: type) -> None:
    accepted = (int, float) if wanted is float else wanted
    if not isinstance(value, accepted) or (isinstance(value, bool) and wanted is not bool):
        raise ConfigError(
            f"{path}: '{key}' must be {_TYPE_WORDS[wanted]}, not {type(value).__name__}",
            hint=f"write it as {_TYPE_EXAMPLES[wanted].format(key=key)}",
        )
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{path}: every entry of '{key}' must be a string")


def _table(parent: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    found = parent.get(key, {})
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: '{key}' must be a table, not {type(found).__name__}", hint="write [tool.kdaudit]")
    return found


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = read_text(path, at_most=MAX_BYTES, encoding="utf-8-sig")
        # a parser remembers every beginning of a dotted key
        if sum(line.count(".") ** 2 for line in text.splitlines()) > MAX_DOTTED:
            raise ConfigError(f"{path} has lines of more dots than settings can have")
        return tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"--config: cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # also of a number without end, or nested without end
        raise ConfigError(f"{path} is not valid TOML: {reason(error)}") from error
