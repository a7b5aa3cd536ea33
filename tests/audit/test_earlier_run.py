"""The teacher of an earlier run serves a new student: the same figures, without asking it again."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

import kdaudit as package
from kdaudit.audit.earlier import METADATA
from tests.commands import NAMES, Done, Given, check_refused, counted_loads, halves, kdaudit, read_texts, results

ATTACKS = ("--attack", "loss,reference,min-k,recall,ez", "--paper-compat")


class Runs:
    """A run of a teacher that is gone by now, and what is known of it."""

    def __init__(self, given: Given, other: Path, folder: Path) -> None:
        self.given, self.other, self.folder = given, other, folder
        teacher = folder / "teacher"
        shutil.copytree(given.teacher, teacher)
        self.data = ("--members", given.members, "--nonmembers", given.nonmembers)
        self.options: tuple[Any, ...] = (*ATTACKS, "--reference", given.start)
        done = kdaudit(
            "attack", "--teacher", teacher, "--student", given.student, *self.data, *self.options, "--out", self.run
        )
        assert done.code == 0, done.err
        done = kdaudit(
            "attack", "--teacher", teacher, "--student", other, "--student", given.student, *self.data, *self.options,
            "--gate", "difference.auc[loss] <= 0.9", "--out", folder / "fresh",
        )  # fmt: skip
        assert done.code == 3, done.err
        shutil.rmtree(teacher)

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def again(self, out: Path, *options: object, run: Path | None = None) -> Done:
        students = ("--student", self.other, "--student", self.given.student)
        return kdaudit("attack", "--teacher-run", run or self.run, *students, "--out", out, *options)


@pytest.fixture(scope="module")
def runs(given: Given, checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(given, checkpoint(seed=4), tmp_path_factory.mktemp("teacher-run"))


def figures(out: Path) -> dict[str, Any]:
    """Everything in results.json but whence the teacher's numbers came."""
    found = results(out)
    found["models"]["teacher"].pop("scored_in", None)
    found["data"]["passes"].pop("teacher")
    found["validity"]["warnings"] = [one for one in found["validity"]["warnings"] if "was not asked again" not in one]
    return found


def test_the_figures_are_those_of_a_run_that_scored_both(runs: Runs, tmp_path: Path) -> None:
    with counted_loads() as loads:
        done = runs.again(tmp_path / "run", *runs.data, *runs.options, "--gate", "difference.auc[loss] <= 0.9")
    assert done.code == 3, done.err
    assert "the teacher" in done.err
    assert "was not asked again" in done.err
    assert "teacher" not in loads
    assert figures(tmp_path / "run") == figures(runs.folder / "fresh")
    found = results(tmp_path / "run")
    assert [*found["models"]] == ["teacher", "student", "student-2"]
    assert found["mixed_supervision"]["student"]["members"]["teacher_mean_probability"]["value"] is not None
    source = found["models"]["teacher"]["scored_in"]
    assert (source["run"], len(source["sha256"])) == ("run", 64)
    assert found["models"]["teacher"]["fingerprint"] == results(runs.run)["models"]["teacher"]["fingerprint"]
    assert found["data"]["passes"]["teacher"] == 0
    scores, fresh = (package.load_scores(out) for out in (tmp_path / "run", runs.folder / "fresh"))
    assert scores.equals(fresh)
    kept = parquet.read_schema(tmp_path / "run" / "likelihoods.parquet")
    assert [part.name for part in kept if part.type == "string"] == ["id", "model"]
    assert not [name for name in NAMES if name.encode() in kept.metadata[METADATA]]

    assert kdaudit("report", tmp_path / "run", "--format", "md").code == 3
    text = (tmp_path / "run" / "report.md").read_text()
    assert "(scored in run)" in text
    again = runs.again(tmp_path / "next", *runs.data, *runs.options, run=tmp_path / "run")
    assert again.code == 0, again.err
    assert figures(tmp_path / "next")["attacks"] == found["attacks"], "a run that took a teacher over can lend it"


def test_python_takes_a_run_too_and_a_run_of_one_model_is_one_of_a_teacher(runs: Runs, tmp_path: Path) -> None:
    given = runs.given
    members, nonmembers = list(read_texts(given.members).values()), list(read_texts(given.nonmembers).values())
    records: dict[str, Any] = {"members": members, "nonmembers": nonmembers, "attacks": ["loss", "reference"]}
    package.audit(model=given.teacher, out=tmp_path / "lone", model_reference=given.start, **records)
    found = package.audit(teacher_run=tmp_path / "lone", student=given.student, reference=given.start, **records)
    fresh = package.audit(given.teacher, given.student, reference=given.start, **records)
    assert found.attacks == fresh.attacks
    assert found.mixed_supervision == fresh.mixed_supervision
    assert found.models["teacher"].scored_in is not None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--seed", 3), ("--seed: 0 there, 3 here",)),
        (("--attack", "wbc"), ("did not attack its teacher by wbc",)),
        (("--set", "min-k.fraction=0.5"), ("other parameters of min-k",)),
        (("--max-tokens", 100), ("tokens that are read at once: 128 there, 100 here",)),
        (("--dtype", "bfloat16"), ("precision (--dtype): float32 there, bfloat16 here",)),
        (("--limit", 20), ("members: 24 there, 20 here",)),
        (("--n-shots", 1), ("shots:",)),
        (("--teacher", "t"), ("the run says which teacher it is", "--teacher")),
        (("--teacher-reference", "t"), ("leave --teacher-reference out",)),
        (("--model", "m"), ("--model",)),
    ],
)
def test_what_would_change_the_teachers_numbers_is_refused_by_its_name(
    options: tuple[object, ...], words: tuple[str, ...], runs: Runs, tmp_path: Path
) -> None:
    mine = [part for part in runs.options if part not in ("--paper-compat",)]
    with counted_loads() as loads:
        done = runs.again(tmp_path / "out", *runs.data, *mine, *options)
    check_refused(done, *words)
    assert loads == []
    assert not (tmp_path / "out" / "results.json").exists()


def test_other_records_another_tokenizer_and_folders_that_cannot_serve_are_refused(
    runs: Runs, tmp_path: Path, checkpoint: Callable[..., Path]
) -> None:
    members, nonmembers = halves(tmp_path / "others", 24, seed=5)
    done = runs.again(tmp_path / "out", "--members", members, "--nonmembers", nonmembers, *runs.options)
    check_refused(done, "it has other records", "give --teacher")
    stranger = checkpoint("gpt2", seed=2, tokenizer_seed=5)
    attack = ("attack", "--teacher-run", runs.run, *runs.data, *ATTACKS, "--out", tmp_path / "out")
    check_refused(kdaudit(*attack, "--student", stranger), "has another tokenizer than the students", "give --teacher")
    check_refused(
        kdaudit(*attack, "--student", stranger, "--student", runs.other),
        "the tokenizers of its models are not those of the students",
    )
    few = ("attack", "--teacher-run", runs.run, *runs.data, "--attack", "loss", "--student", runs.other)
    check_refused(kdaudit(*few, "--out", tmp_path / "out"), "shots: 6 there, 0 here")
    old = tmp_path / "old"
    shutil.copytree(runs.run, old)
    (old / "likelihoods.parquet").write_bytes(b"PAR1")
    check_refused(runs.again(tmp_path / "out", *runs.data, *runs.options, run=old), "likelihoods.parquet")
    (old / "likelihoods.parquet").unlink()
    done = runs.again(tmp_path / "out", *runs.data, *runs.options, run=old)
    check_refused(done, "earlier version of kdaudit", "run its own command again")
    check_refused(runs.again(tmp_path / "out", *runs.data, run=tmp_path / "none"), "is not a folder")
    check_refused(runs.again(runs.run, *runs.data, *runs.options), "is the folder of this run too")
    (old / "results.json").unlink()
    check_refused(runs.again(tmp_path / "out", *runs.data, run=old), "holds no results.json")


def test_a_run_without_paper_figures_cannot_give_them(runs: Runs, tmp_path: Path) -> None:
    given = runs.given
    options = ("--attack", "min-k", "--reference", given.start)
    assert given.attack(tmp_path / "plain", *options).code == 0
    done = runs.again(tmp_path / "out", *runs.data, *options, "--paper-compat", run=tmp_path / "plain")
    check_refused(done, "it was run without --paper-compat")
