"""What `import kdaudit` gives: the commands as functions, on paths or on texts in memory, and their results as tables.

Every name here is also one of the package. Importing this module loads nothing heavy; a function loads what it needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, get_args, get_origin, get_type_hints

from kdaudit.config import AuditConfig
from kdaudit.errors import ConfigError, KdauditError, did_you_mean
from kdaudit.keywords import AuditKeywords, DistillKeywords
from kdaudit.options import options_of
from kdaudit.records import IN_MEMORY, Read, RecordSet, collect
from kdaudit.records import read as read_file

if TYPE_CHECKING:
    import pandas

    from kdaudit.results import AuditResult, Utility, Verdict

Texts = Iterable[str | Mapping[str, object]]
"""Records in memory: texts, or mappings with the fields that a file would have; a data frame is one too."""
Source = str | Path | Texts
"""Records in a file, in several (a list of Path), in a Hub data set (`hub:name[:config]:split`), or in memory."""
Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done and what there is to do."""

COLUMNS = (
    "attack", "model", "minus", "metric", "value", "low", "high", "level", "n", "m", "p_value", "p_value_holm",
    "method", "reason",
)  # fmt: skip
"""Columns of `to_pandas`."""
_OPTION = re.compile(r"(?<![\w-])--(?!help\b)([a-z][a-z-]*[a-z])")

Config = TypeVar("Config")


@dataclass(frozen=True, slots=True)
class Distilled:
    """A distilled student."""

    folder: Path
    """Where it lies, with its manifest: give it to `audit` or to transformers."""
    utility: Utility
    """What it is worth on held-out records, beside its teacher and its start."""


def audit(
    teacher: str | Path | None = None,
    student: str | Path | Sequence[str | Path] = (),
    *,
    students: Sequence[str | Path] = (),
    model: str | Path | None = None,
    members: Source | None = None,
    nonmembers: Source | None = None,
    shots: Source | None = None,
    train: Source | None = None,
    reference: str | Path | None = None,
    out: str | Path | None = None,
    on_progress: Progress | None = None,
    **options: Unpack[AuditKeywords],
) -> AuditResult:
    """Attack a teacher and its students, or one model, and measure how much each one leaks, as `kdaudit attack` does.

    Args:
        teacher: checkpoint folder or Hub id.
        student: a student that was distilled from the teacher, or several.
        students: another way to give several.
        model: one model that is audited by itself, in the place of a teacher and students.
        members: texts that were in the training data. Without them the student's manifest says who was a member.
        nonmembers: texts of the same kind that were not.
        shots: non-member texts for prefix attacks; without them some are taken out of `nonmembers`.
        train: the training records of a distilled student, where they are no longer where its manifest says.
        reference: what every model without a reference of its own started from.
        out: the run folder, which a later call with the same settings continues; without it nothing is left on disk.
        on_progress: told about long work; without it nothing is shown.
        options: the options of the command by their names in Python, see `kdaudit.config.AuditConfig`.

    Returns:
        Everything that was found, as `load_results` reads it from the run folder.

    Raises:
        KdauditError: with what to do about it in the message; what was measured until then is kept in `out`.
    """
    given: dict[str, Any] = dict(options)
    with _speaking_python(), _run_folder(out) as folder:
        from kdaudit.audit.run import run_audit  # loads torch

        named = [*_as_sequence(student), *students]
        sources, read = _sources(members=members, nonmembers=nonmembers, shots=shots, train=train)
        models = {"teacher": teacher, "model": model, "reference": reference}
        config = _config(AuditConfig, {**models, "students": named, **sources, **given, "out": folder})
        command = _call("audit", {**models, "student": named or None, **sources, **given})
        with _quiet_libraries():
            return run_audit(config, command=command, on_progress=on_progress or _silent, read_source=read)


def distill(
    teacher: str | Path,
    train: Source,
    out: str | Path,
    *,
    student: str | Path | None = None,
    nonmembers: Source | None = None,
    on_progress: Progress | None = None,
    **options: Unpack[DistillKeywords],
) -> Distilled:
    """Distil a student and measure what it is worth, as `kdaudit distill` does; an unfinished run is continued.

    Args:
        teacher: checkpoint folder or Hub id.
        train: the training records.
        out: the student's folder. The key of the record ids lies beside the training file, or beside this folder where
            the training records are in memory: keep it, and do not publish it.
        student: the checkpoint that the student starts from; see also `student_layers` and `student_config`.
        nonmembers: records that neither model saw; else some of `train` are held out, see `holdout` and `teacher_saw`.
        on_progress: told about long work; without it nothing is shown.
        options: the options of the command by their names in Python, see `kdaudit.distill.settings.DistillConfig`.

    Raises:
        KdauditError: with what to do about it in the message; what was trained until then is kept in `out`.
    """
    from kdaudit.distill.settings import DistillConfig
    from kdaudit.manifest import KEY_SUFFIX

    given: dict[str, Any] = dict(options)
    tell = on_progress or _silent
    with _speaking_python():
        from kdaudit import results
        from kdaudit.distill.learn import Told  # loads torch
        from kdaudit.distill.run import run_distill
        from kdaudit.results.file import decode

        sources, read = _sources(train=train, nonmembers=nonmembers)
        folder = Path(out).expanduser()
        if sources["train"] == (IN_MEMORY,):
            given.setdefault("key_file", folder.with_name(folder.name + KEY_SUFFIX))
        if student is not None:
            given["student"] = student
        config = _config(DistillConfig, {"teacher": teacher, **sources, **given, "out": folder})
        command = _call("distill", {"teacher": teacher, **sources, **given, "out": folder})
        told = Told(on_progress=lambda stage, done, total, note: tell(stage, done, total))
        with _quiet_libraries():
            content = run_distill(config, command=command, told=told, read_source=read)
    utility: Utility = decode(results.Utility, content["utility"], "utility")
    return Distilled(config.out, utility)


def load_results(path: str | Path) -> AuditResult:
    """What an audit found.

    Args:
        path: a run folder, or its results.json.

    Raises:
        KdauditError: there is no such file, or it is of another kind.
    """
    from kdaudit.results import load

    with _speaking_python():
        return load(_in_run(path, "results.json"))


def judge(results: AuditResult | str | Path, gates: str | Iterable[str]) -> Verdict:
    """Hold gates against the intervals of an audit; no model is asked again.

    Args:
        results: of `audit` or `load_results`, or a run folder.
        gates: limits such as "student.auc <= 0.6".

    Raises:
        KdauditError: a gate cannot be read, or is on something that the audit did not measure.
    """
    from kdaudit.verdict import check_gates, parse_gate
    from kdaudit.verdict import judge as settle

    found = _results(results)
    with _speaking_python():
        parsed = [parse_gate(gate) for gate in ([gates] if isinstance(gates, str) else gates)]
        check_gates(parsed, models=list(found.models), attacks=list(found.attacks))
        return settle(found.attacks, found.validity, parsed)


def to_pandas(results: AuditResult | str | Path) -> pandas.DataFrame:
    """One row for each attack, model and metric, and for each difference between a student and the teacher.

    A figure that could not be measured has no value but a `reason`. In rows of differences `minus` is `teacher` and
    `value` is the student's figure minus the teacher's; elsewhere `minus` is missing, as `p_value` is.

    Args:
        results: of `audit` or `load_results`, or a run folder.

    Raises:
        KdauditError: the folder holds no results.
    """
    import pandas

    frame = pandas.DataFrame(list(_rows_of(_results(results))), columns=list(COLUMNS))
    counts, numbers = ("n", "m"), ("value", "low", "high", "level", "p_value", "p_value_holm")
    return frame.astype({**dict.fromkeys(counts, "int64"), **dict.fromkeys(numbers, "float64")})


def load_scores(path: str | Path) -> pandas.DataFrame:
    """The score of every record: one row for each record, model and attack, with its part and whether it is a member.

    Args:
        path: a run folder, or its scores.parquet.

    Raises:
        KdauditError: there is no such file, or it is of another kind.
    """
    from kdaudit.foreign import check_regular, reading
    from kdaudit.results.scores import HINT

    found = _in_run(path, "scores.parquet")
    with _speaking_python(), reading(f"{found}: not a scores file", ConfigError, hint=HINT):
        import pyarrow.parquet

        check_regular(found)
        frame: pandas.DataFrame = pyarrow.parquet.read_table(found).to_pandas()
        return frame[["id", "member", "part", "model", "attack", "score"]]


def _results(given: AuditResult | str | Path) -> AuditResult:
    """Results as they are, or those that a path names."""
    from kdaudit.results import AuditResult

    if isinstance(given, AuditResult):
        return given
    if isinstance(given, str | Path):
        return load_results(given)
    raise ConfigError(
        f"results: {type(given).__name__} where results of an audit are needed",
        hint="give what audit or load_results returned, or the path of a run folder",
    )


def _rows_of(results: AuditResult) -> Iterator[dict[str, Any]]:
    for attack, found in results.attacks.items():
        for minus, parts in ((None, found.cells), ("teacher", found.comparison)):
            for model, part in parts.items():
                row = {"attack": attack, "model": model, "minus": minus}
                if not part.figures:
                    yield {**row, "reason": part.reason, "n": 0, "m": 0}
                for metric, figure in part.figures.items():
                    known = {name: getattr(figure, name, None) for name in COLUMNS[4:]}
                    yield {**row, "metric": metric, **known}


def _in_run(path: str | Path, name: str) -> Path:
    given = Path(path).expanduser()
    return given / name if given.is_dir() else given


def _as_sequence(given: str | Path | Sequence[str | Path]) -> Sequence[str | Path]:
    return [given] if isinstance(given, str | Path) else given


@contextmanager
def _run_folder(out: str | Path | None) -> Iterator[Path]:
    """The folder that was asked for, or one that is gone at the end of the block."""
    if out is not None:
        yield Path(out)
        return
    with TemporaryDirectory(prefix="kdaudit-") as folder:
        yield Path(folder) / "run"


def _sources(**given: Source | None) -> tuple[dict[str, tuple[str, ...]], Read]:
    """By keyword what the configuration says of a set of records, and what reads it."""
    sources: dict[str, tuple[str, ...]] = {}
    in_memory: dict[str, list[Any]] = {}
    for name, source in given.items():
        if source is None or isinstance(source, str | Path):
            sources[name] = () if source is None else (str(source),)
            continue
        found = _rows(source, name)
        if found and all(isinstance(one, Path) for one in found):
            sources[name] = tuple(map(str, found))
        else:
            sources[name] = (IN_MEMORY,)
            in_memory[f"--{name}"] = found

    def read(source: Sequence[str], *, option: str, **how: Any) -> RecordSet:
        if tuple(source) == (IN_MEMORY,) and option in in_memory:
            return collect(in_memory[option], option=option, **how)
        return read_file(source, option=option, **how)

    return sources, read


def _rows(given: Any, name: str) -> list[Any]:
    """Rows of a frame of pandas or polars, or of anything that can be iterated over."""
    if hasattr(given, "to_dicts"):  # polars
        return list(given.to_dicts())
    if hasattr(given, "to_dict") and hasattr(given, "columns"):  # pandas, whose missing values are numbers
        return list(given.astype(object).where(given.notna(), None).to_dict("records"))
    if isinstance(given, Mapping | bytes) or not isinstance(given, Iterable):
        raise ConfigError(
            f"{name}: {type(given).__name__} is neither a path nor a list of records",
            hint="give a path, a list of texts, a list of mappings, or a data frame",
        )
    return list(given)


def _config(kind: Callable[..., Config], given: Mapping[str, Any]) -> Config:
    """The configuration of a command, from what was given by keyword.

    Raises:
        ConfigError: a keyword is unknown or its value is of another type.
    """
    known, options = get_type_hints(kind), {option.field: option for option in options_of(kind)}
    settings = {}
    for name, value in given.items():
        if name not in known:
            raise ConfigError(f"unknown keyword '{name}'", hint=did_you_mean(name, options))
        converted = _converted(value, known[name], name)
        settings[name] = options[name].expanded(converted) if name in options else converted
    return kind(**settings)


def _converted(value: Any, hint: Any, name: str) -> Any:
    """A value as the field of a configuration holds it: paths as it has them, lists as tuples."""
    allowed = [one for one in (get_args(hint) or (hint,)) if isinstance(one, type)]
    if get_origin(hint) is tuple:
        if not isinstance(value, str | Path | Sequence | None):  # a data frame would be its columns
            raise ConfigError(f"{name}: {type(value).__name__} where a text or a list of texts is needed")
        items = [value] if isinstance(value, str | Path) or value is None else value
        return tuple(str(item) if isinstance(item, Path) else item for item in items)
    if isinstance(value, str | Path) and Path in allowed:
        return Path(value)
    if isinstance(value, Path) and str in allowed:
        return str(value)
    is_flag = isinstance(value, bool)
    if isinstance(value, int) and not is_flag and float in allowed:
        return float(value)
    if isinstance(value, int | float) and not is_flag and not {int, float} & {*allowed}:
        return str(value)  # a share or a count, such as holdout
    if allowed and (not isinstance(value, tuple(allowed)) or (is_flag and bool not in allowed)):
        wanted = " or ".join("None" if one is type(None) else one.__name__ for one in allowed)
        raise ConfigError(f"{name}: {type(value).__name__} where {wanted} is needed")
    return value


def _call(function: str, given: Mapping[str, Any]) -> str:
    """The call as a manifest records it; what is in memory is not in it."""
    shown = (f"{name}={_shown(value)}" for name, value in given.items() if value is not None and value != ())
    return f"kdaudit.{function}({', '.join(shown)})"


def _shown(value: Any) -> str:
    if isinstance(value, tuple) and len(value) == 1:
        return _shown(value[0])
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return f"<{IN_MEMORY}>" if value == IN_MEMORY else repr(str(value) if isinstance(value, Path) else value)


@contextmanager
def _speaking_python() -> Iterator[None]:
    """Let an error say what to do as well, and name keywords in the place of options."""
    try:
        yield
    except KdauditError as error:
        said = "\n".join(filter(None, (str(error), error.hint)))
        error.args = (_OPTION.sub(lambda found: found[1].replace("-", "_"), said),)
        raise


def _silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep the bars and the advice of transformers out of a notebook, and leave it as it was."""
    from transformers.utils import logging

    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()
