"""What an earlier run knows of a teacher: kept beside the scores of every run, and taken instead of asking it again.

`likelihoods.parquet` holds one row for each record and model: sums over the tokens of its text, no text. Its metadata
says how the texts were shown, which a run that takes these numbers must do in the same way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kdaudit
from kdaudit import results
from kdaudit.artefacts import replacing
from kdaudit.attacks.base import Attack
from kdaudit.audit.data import AuditData
from kdaudit.audit.plan import Plan, Subject
from kdaudit.audit.request import A_RUN, check_there
from kdaudit.audit.scoring import Scores
from kdaudit.config import LONE, TEACHER, AuditConfig
from kdaudit.errors import ConfigError
from kdaudit.foreign import check_regular, reading
from kdaudit.models.checkpoint import Checkpoint
from kdaudit.results import AuditedModel, EarlierRun
from kdaudit.results.scores import load_scores
from kdaudit.results.seal import LIKELIHOODS
from kdaudit.signals.likelihoods import Floats, Likelihoods

METADATA = b"kdaudit.likelihoods"
FIGURES = tuple(part.name for part in fields(Likelihoods))
ALONE, PAPER = "alone:", "paper:"
"""What columns of scores begin with: of a start that is attacked by itself, and those of --paper-compat."""
MAX_ROWS = 2 * 10**7
ANEW = "give --teacher, which is then asked again, or the settings of that run"


@dataclass(frozen=True, slots=True)
class Earlier:
    """A teacher and what it started from, as an earlier run scored them."""

    folder: Path
    subject: Subject
    """Its checkpoints are recorded ones: their files may be gone."""
    model: AuditedModel
    reading: Mapping[str, Any]
    """How the texts were shown."""
    splits: Mapping[str, str]
    """By fingerprint: how the tokenizer split the texts, as a hash."""
    ids: tuple[str, ...]
    attacks: Mapping[str, Mapping[str, Any]]
    """By attack that ran on the teacher: its version and parameters."""
    alone: Mapping[str, Mapping[str, Any]]
    """The same of the attacks on starts."""
    scores: Mapping[str, Floats]
    paper: Mapping[str, Floats]
    likelihoods: Mapping[str, Likelihoods]
    """By fingerprint, of the teacher and its start."""
    of_start: Mapping[str, Floats]

    @property
    def note(self) -> str:
        """What has to be said where its numbers are shown."""
        return (
            f"the teacher {self.model.name} was not asked again: its scores, and those of what it started from, come "
            f"from the run {self.folder.name}; the hashes of the weights alone tell whether a reference is a copy of it"
        )


def write_likelihoods(path: Path, plan: Plan, data: AuditData, scores: Scores) -> None:
    """Write what `read_earlier` reads, for every model of a run and what each started from.

    Raises:
        DiskFullError: no space is left.
        OutputError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    models = {name: checkpoint for name, checkpoint, _ in _parts(plan.subjects)}
    about = {
        "kdaudit_version": kdaudit.__version__,
        "reading": reading_of(plan, data),
        "models": {
            name: {"checkpoint": _recorded(one), "split": plan.passages.splits[plan.tokenizer_of[one.fingerprint]]}
            for name, one in models.items()
        },
        "alone": {name: _definition(attack) for name, attack in scores.alone.items()},
    }
    alone, paper = [f"{ALONE}{name}" for name in scores.alone], [f"{PAPER}{name}" for name in scores.paper]
    columns = [("id", pa.string()), ("member", pa.bool_()), ("model", pa.string())]
    columns += [(name, pa.float64()) for name in (*FIGURES, *alone, *paper)]
    schema = pa.schema(columns, metadata={METADATA: json.dumps(about)})
    n, ids = len(data.records), list(data.records.column("id"))
    with replacing(path) as waiting, pq.ParquetWriter(waiting, schema) as writer:
        for name, one, is_start in _parts(plan.subjects):
            found: dict[str, Any] = {
                "id": ids, "member": data.is_member, "model": [name] * n,
                **{part: getattr(scores.likelihoods[one.fingerprint], part) for part in FIGURES},
            }  # fmt: skip
            of_start = scores.of_starts[one.fingerprint] if is_start else {}
            for columns_of, prefix, by_attack in (
                (scores.alone, ALONE, of_start),
                (scores.paper, PAPER, {attack: by_model.get(name) for attack, by_model in scores.paper.items()}),
            ):
                for attack in columns_of:
                    values = by_attack.get(attack)
                    found[f"{prefix}{attack}"] = np.full(n, np.nan) if values is None else values
            arrays = [pa.array(found[part.name], type=part.type, from_pandas=True) for part in schema]
            writer.write_table(pa.table(arrays, schema=schema))


def read_earlier(folder: Path) -> Earlier:
    """What a run knows of its teacher, or of the model that it audited alone.

    Raises:
        ConfigError: the folder holds no such run, or files that do not belong together.
    """
    check_there(folder)
    found = results.load(folder / "results.json")
    scored = load_scores(folder / "scores.parquet")
    name = TEACHER if TEACHER in found.models else LONE
    model = found.models[name]
    path = folder / LIKELIHOODS
    with reading(f"--teacher-run: {path} cannot be read", ConfigError, hint=A_RUN):
        about, attacks, columns = _read(path, folder / "scores.parquet")
        checkpoints = {part: _checkpoint(about["models"][part]["checkpoint"]) for part in about["models"]}
        own, start = checkpoints[name], checkpoints.get(f"{name}-reference")
        likelihoods = {}
        for part, checkpoint in ((name, own), (f"{name}-reference", start)):
            if checkpoint is not None:
                likelihoods[checkpoint.fingerprint] = Likelihoods(*(columns[part][figure] for figure in FIGURES))
        of_start = columns.get(f"{name}-reference", {})
        earlier = Earlier(
            folder=folder,
            subject=Subject(TEACHER, own, start),
            model=replace(model, distillation=None, scored_in=None),
            reading=about["reading"],
            splits={one.fingerprint: about["models"][part]["split"] for part, one in checkpoints.items()},
            ids=scored.ids,
            attacks={attack: attacks[attack] for attack, of in scored.by_cell if of == name},
            alone=about["alone"],
            scores={attack: values for (attack, of), values in scored.by_cell.items() if of == name},
            paper=_without(PAPER, columns[name]),
            likelihoods=likelihoods,
            of_start=_without(ALONE, of_start),
        )
        is_one_run = earlier.reading["records"] == found.data.sha256 and own.fingerprint == model.fingerprint
        if not is_one_run or any(values.size != len(scored.ids) for values in earlier.scores.values()):
            raise ValueError("it is of another run than the results.json beside it")
    return earlier


def check_records(earlier: Earlier, data: AuditData, config: AuditConfig) -> None:
    """Refuse a run of other records than those of this audit, before they are shown to any tokenizer.

    Raises:
        ConfigError: naming what differs.
    """
    was, now = earlier.reading, _records_of(data, config.seed)
    differing = [*_unequal(was, now)]
    if was["records"] != now["records"]:
        differing.insert(0, "it has other records")
    elif not differing and earlier.ids != tuple(data.records.column("id")):
        differing.append("it drew other records")
    _refuse(earlier, differing)


def check_fits(earlier: Earlier, plan: Plan, data: AuditData, config: AuditConfig) -> None:
    """Refuse a run whose numbers are not those that this audit would measure of its teacher.

    Raises:
        ConfigError: naming what differs.
    """
    _refuse(earlier, [*_differing(earlier, plan, data, config)])


def _refuse(earlier: Earlier, differing: Sequence[str]) -> None:
    if differing:
        raise ConfigError(
            f"--teacher-run: {earlier.folder} does not serve this audit: {'; '.join(differing)}", hint=ANEW
        )


def with_earlier(scores: Scores, earlier: Earlier | None) -> Scores:
    """The scores of an audit with those of the teacher of an earlier run, if there is one."""
    if earlier is None:
        return scores
    start = earlier.subject.reference
    starts = {start.fingerprint: earlier.of_start} if start is not None else {}
    return replace(
        scores,
        by_attack=_with_teacher(scores.by_attack, earlier.scores),
        paper=_with_teacher(scores.paper, earlier.paper),
        likelihoods={**earlier.likelihoods, **scores.likelihoods},
        of_starts={**starts, **scores.of_starts},
    )


def describe_earlier(earlier: Earlier) -> AuditedModel:
    """What a results file says of the teacher, and whence its numbers come."""
    content = (earlier.folder / "scores.parquet").read_bytes() + (earlier.folder / LIKELIHOODS).read_bytes()
    source = EarlierRun(earlier.folder.resolve().name, _version(earlier.folder), hashlib.sha256(content).hexdigest())
    return replace(earlier.model, scored_in=source)


def reading_of(plan: Plan, data: AuditData) -> dict[str, Any]:
    """How the texts of an audit are shown: two models that are shown them so can be compared record by record."""
    passages = plan.passages
    frames = {
        repr((one.kind.name, one.lead, one.prefix, one.between, one.tail, one.mask, one.start))
        for view in passages.cuts
        for one in (passages.frame(view, k) for k in range(len(passages.tokenizers)))
    }
    return {
        **_records_of(data, passages.seed),
        "fitting": passages.n_shots,
        "window": passages.window,
        "dtype": plan.dtype,
        "masking": plan.masking.told if plan.masking is not None else "",
        "tokenizers": sorted(set(passages.splits)),
        "frames": _hash("\0".join(sorted(frames))),
        "prompts": _hash(passages.prompt_cuts.tobytes()),
        "views": {f"{view.name} {view.version}": _hash(cuts.tobytes()) for view, cuts in passages.cuts.items()},
    }


def _records_of(data: AuditData, seed: int) -> dict[str, Any]:
    n_shots = len(data.shots)
    counts = {"members": len(data.members), "nonmembers": len(data.nonmembers), "shots": n_shots}
    return {"records": data.sha256, **counts, "seed": seed}


WORDS: Mapping[str, str] = {
    "members": "members", "nonmembers": "non-members", "shots": "shots", "seed": "--seed", "fitting": "fitting shots",
    "window": "tokens that are read at once", "dtype": "precision (--dtype)", "masking": "mask plan",
}  # fmt: skip
"""Settings whose values are named where they differ."""


def _unequal(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key, words in WORDS.items():
        if key in now and was[key] != now[key]:
            yield f"{words}: {was[key]} there, {now[key]} here"
    if "shots" in now and bool(was["shots"]) != bool(now["shots"]):
        yield "recall, which takes shots out of the non-members, ran in one of them alone (--attack)"


def _differing(earlier: Earlier, plan: Plan, data: AuditData, config: AuditConfig) -> Iterator[str]:
    was, now = earlier.reading, reading_of(plan, data)
    yield from _unequal(was, now)
    if was["tokenizers"] != now["tokenizers"]:
        yield "the tokenizers of its models are not those of the students"
    elif was["frames"] != now["frames"]:
        yield "other tokens stood around its texts"
    elif was["prompts"] != now["prompts"]:
        yield "its prompts were cut elsewhere"
    for one in plan.attacks:
        name = one.attack.name
        if TEACHER not in one.runs_on:
            continue
        lacking = [view.name for view in one.attack.views if f"{view.name} {view.version}" not in was["views"]]
        if name not in earlier.attacks or lacking:
            yield f"it did not attack its teacher by {name}"
        elif earlier.attacks[name] != _definition(one.attack):
            yield f"it has another version or other parameters of {name}"
        elif any(was["views"].get(view) != cuts for view, cuts in now["views"].items() if view in was["views"]):
            yield f"its texts were cut elsewhere for {name}"
        elif config.paper_compat and name in plan.as_in_paper and name not in earlier.paper:
            yield "it was run without --paper-compat"
    alone = {name: _definition(attack) for name, attack in plan.alone.items()}
    if earlier.subject.reference is not None and earlier.alone != alone:
        yield "its starts were attacked with other parameters (--set)"


def _with_teacher(
    scores: Mapping[str, Mapping[str, Floats]], of_teacher: Mapping[str, Floats]
) -> dict[str, dict[str, Floats]]:
    return {
        attack: {**by_model, **({TEACHER: of_teacher[attack]} if TEACHER in by_model else {})}
        for attack, by_model in scores.items()
    }


def _parts(subjects: Sequence[Subject]) -> Iterator[tuple[str, Checkpoint, bool]]:
    """Every model and what each started from, which is true for the latter."""
    for subject in subjects:
        yield subject.name, subject.checkpoint, False
        if subject.reference is not None:
            yield f"{subject.name}-reference", subject.reference, True


def _definition(attack: Attack) -> dict[str, Any]:
    """An attack's version and parameters, as JSON gives them back."""
    found: dict[str, Any] = json.loads(json.dumps({"version": attack.version, **attack.values}))
    return found


def _hash(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def _recorded(checkpoint: Checkpoint) -> dict[str, Any]:
    """A checkpoint without where it lies."""
    found = {**asdict(checkpoint), "base": _recorded(checkpoint.base) if checkpoint.base else None}
    return {name: value for name, value in found.items() if name not in {"folder", "is_recorded"}}


def _checkpoint(recorded: Mapping[str, Any]) -> Checkpoint:
    base = _checkpoint(recorded["base"]) if recorded["base"] else None
    known = {part.name for part in fields(Checkpoint)}
    kept = {name: value for name, value in recorded.items() if name in known}
    return Checkpoint(**{**kept, "folder": Path(kept["name"]), "base": base, "is_recorded": True})


def _read(path: Path, scores: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, dict[str, Floats]]]:
    """The metadata of both files, and by model the columns of figures."""
    import pyarrow.parquet as pq

    check_regular(path)
    if pq.read_metadata(path).num_rows > MAX_ROWS:
        raise ValueError(f"more than {MAX_ROWS:,} rows")
    table = pq.read_table(path)
    names: NDArray[np.object_] = np.array(table["model"].to_pylist(), dtype=object)
    parts = [name for name in table.column_names if name not in {"id", "member", "model"}]
    columns = {part: table[part].to_numpy().astype(np.float64) for part in parts}
    by_model = {
        name: {part: values[names == name] for part, values in columns.items()} for name in dict.fromkeys(names)
    }
    about = json.loads(table.schema.metadata[METADATA])
    attacks = json.loads(pq.read_schema(scores).metadata[b"kdaudit.attacks"])
    return about, attacks, by_model


def _without(prefix: str, columns: Mapping[str, Floats]) -> dict[str, Floats]:
    return {name.removeprefix(prefix): values for name, values in columns.items() if name.startswith(prefix)}


def _version(folder: Path) -> str:
    return results.load(folder / "results.json").kdaudit_version
