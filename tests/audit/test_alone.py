"""One model audited by itself: a checkpoint whose teacher is an API, too large, or gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import kdaudit as package
from kdaudit.audit import measure
from tests.commands import FINISHED, Given, check_refused, fewer_resamples, kdaudit, results
from tests.distill.students import Recipe

PAIRED = (
    *("--teacher", "--student", "--teacher-reference", "--student-reference", "--teacher-load", "--student-load"),
    *("--teacher-base", "--student-base"),
)


def arguments(given: Given, out: Path) -> list[str]:
    found = ["attack", "--model", given.student, "--members", given.members, "--nonmembers", given.nonmembers]
    return [*map(str, found), "--out", str(out)]


@pytest.fixture(scope="module")
def alone(given: Given, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on one model with a reference, gated."""
    out = tmp_path_factory.mktemp("alone") / "run"
    gate = ("--gate", "model.auc <= 0.99", "--model-reference", given.start)
    done = kdaudit(*arguments(given, out), *FINISHED, *gate)
    assert done.code == 3, done.err  # 24 records of each class settle nothing
    assert "model.auc<=0.99" in done.out
    assert "teacher" not in done.out.replace("a teacher, do not", "")
    return out


def test_a_model_alone_has_the_figures_that_it_has_as_a_student(alone: Path, finished: Path) -> None:
    own, paired = results(alone), results(finished)
    assert list(own["models"]) == ["model"]
    for attack in ("loss", "reference"):
        assert own["attacks"][attack]["model"]["auc"] == paired["attacks"][attack]["student"]["auc"]
        assert own["attacks"][attack]["comparison"] == own["attacks"][attack]["two_by_two"] == {}
    assert own["mixed_supervision"] == {}
    assert own["models"]["model"]["fingerprint"] == paired["models"]["student"]["fingerprint"]
    assert own["models"]["model"]["reference"] == paired["models"]["student"]["reference"]


def test_every_report_of_a_model_alone_leaves_the_comparison_with_a_teacher_out(alone: Path, tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("---\nlicense: mit\n---\n# A model\n", encoding="utf-8")
    formats = ("--format", "html,md,json,junit,sarif", "--out", tmp_path)
    done = kdaudit("report", alone, *formats, "--gate", "model.auc <= 0.6", "--model-card", card, "--model-index")
    assert done.code == 3, done.err
    written = [path for path in tmp_path.iterdir() if path.suffix not in {".sarif", ".json"}]  # all gates, all options
    assert len(written) == 4
    for path in written:
        text = path.read_text(encoding="utf-8")
        assert "model" in text
        for words in ("student", "− teacher", "minus teacher", "its teacher", "(Holm)"):
            assert words not in text, (path, words)
    assert "model.auc<=0.6" in (tmp_path / "report.sarif").read_text(encoding="utf-8")
    assert "student" not in (alone / "summary.md").read_text(encoding="utf-8")


def test_runs_with_and_without_a_teacher_stand_side_by_side(alone: Path, finished: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(alone, tmp_path / "other", ignore=shutil.ignore_patterns("signals"))
    done = kdaudit("report", alone, copy, "--format", "html,md", "--out", tmp_path / "two")
    assert done.code == 3, done.err
    text = (tmp_path / "two" / "report.md").read_text(encoding="utf-8")
    assert "teacher" not in text.replace("a teacher, do not", "")
    mixed = kdaudit("report", alone, finished, "--format", "html,md", "--out", tmp_path / "mixed")
    assert mixed.code == 3, mixed.err
    lines = (tmp_path / "mixed" / "report.md").read_text(encoding="utf-8").splitlines()
    table = [
        line.split(" | ") for line in lines[next(i for i, line in enumerate(lines) if "| run | model |" in line) :]
    ]
    row = dict(zip(table[0], table[2], strict=True))
    assert (row["model"], row["teacher"], row["student − teacher"]) == ("model", "–", "–")


def test_a_model_alone_is_held_against_a_baseline(alone: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(alone, tmp_path / "earlier", ignore=shutil.ignore_patterns("signals"))
    done = kdaudit("report", alone, "--baseline", copy, "--format", "md", "--out", tmp_path)
    assert done.code in {0, 3}, done.err
    assert "model.auc-baseline" in done.out


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ("difference.auc <= 0.02", "one model alone"),
        ("teacher.auc <= 0.6", "has no teacher"),
        ("student.auc <= 0.6", "has no student"),
    ],
)
def test_a_gate_on_what_a_model_alone_lacks_is_refused(
    given: Given, alone: Path, tmp_path: Path, gate: str, words: str
) -> None:
    check_refused(kdaudit(*arguments(given, tmp_path / "run"), "--gate", gate), words, "model")
    check_refused(kdaudit("report", alone, "--gate", gate, "--out", tmp_path), words, "model")


@pytest.mark.parametrize("option", PAIRED)
def test_a_model_alone_beside_anything_of_a_teacher_or_a_student_is_refused(
    given: Given, tmp_path: Path, option: str
) -> None:
    value = "4bit" if option.endswith("load") else str(given.teacher)
    check_refused(kdaudit(*arguments(given, tmp_path / "run"), option, value), "--model", option)


def test_what_belongs_to_a_model_alone_is_refused_without_it(given: Given, tmp_path: Path) -> None:
    check_refused(given.attack(tmp_path / "run", "--model-reference", given.start), "--model-reference")
    check_refused(given.attack(tmp_path / "run", "--model-load", "4bit"), "--model-load")
    check_refused(
        kdaudit("attack", "--members", given.members, "--nonmembers", given.nonmembers), "--model", "--teacher"
    )


def test_a_reference_for_all_and_a_configuration_file_serve_a_model_alone(
    given: Given, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keys: dict[str, object] = {"model": given.student, "members": given.members, "nonmembers": given.nonmembers}
    keys |= {"reference": given.start, "out": "run"}
    lines = [f"{key} = {json.dumps(str(value))}\n" for key, value in keys.items()]
    lines += ['attacks = ["loss", "reference"]\n', 'gates = ["model.auc <= 0.99"]\n']
    (tmp_path / "kdaudit.toml").write_text("".join(lines), encoding="utf-8")
    done = kdaudit("attack", "--quiet")
    assert done.code == 3, done.err
    assert results(tmp_path / "run")["attacks"] == results(alone)["attacks"]


def test_python_audits_a_model_alone(given: Given, alone: Path) -> None:
    with fewer_resamples():
        found = package.audit(
            model=given.student, members=given.members, nonmembers=given.nonmembers, attacks=["loss", "reference"],
            reference=given.start,
        )  # fmt: skip
    assert found.attacks == package.load_results(alone).attacks
    assert package.judge(found, "model.auc <= 1").gates[0].subject == "model"
    assert set(package.to_pandas(found)["model"]) == {"model"}


def test_the_manifest_of_a_distilled_student_serves_it_alone_once_its_teacher_is_gone(
    recipe: Recipe, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    assert recipe.distill(made).code == 0
    attack = ("--attack", "loss", "--attack", "reference", "--quiet")
    assert (
        kdaudit("attack", "--teacher", recipe.teacher, "--student", made, "--out", tmp_path / "pair", *attack).code == 0
    )
    done = kdaudit("attack", "--model", made, "--out", tmp_path / "alone", *attack)
    assert done.code == 0, done.err
    own, paired = results(tmp_path / "alone"), results(tmp_path / "pair")
    assert own["models"] == {"model": paired["models"]["student"]}
    for name in ("loss", "reference"):
        assert own["attacks"][name]["model"]["auc"] == paired["attacks"][name]["student"]["auc"]


def test_a_reference_with_the_weights_of_a_model_alone_is_refused(given: Given, tmp_path: Path) -> None:
    done = kdaudit(*arguments(given, tmp_path / "run"), "--reference", given.student)
    check_refused(done, "--model-reference (or --reference)", "same weights as the audited model")


def test_another_model_in_the_folder_of_a_model_alone_is_refused(given: Given, alone: Path) -> None:
    done = kdaudit(*arguments(given.having(student=given.teacher), alone), *FINISHED, "--reference", given.start)
    check_refused(done, "model fingerprint")


def test_a_plan_is_printed_alone_and_nothing_is_loaded_or_written(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "loaded", None)
    out = tmp_path / "run"
    done = kdaudit(*arguments(given, out), "--plan-only", "--gate", "model.auc <= 0.6")
    assert (done.code, done.err) == (0, "")
    for words in ("Plan: 24 members, 18 non-members, 6 shots", " on model", "MB"):
        assert words in done.out
    assert not out.exists()
    check_refused(kdaudit(*arguments(given, out), "--plan-only", "--gate", "difference.auc <= 0.6"), "alone")
    check_refused(kdaudit(*arguments(given, out), "--plan-only", "--json"), "--plan-only", "--json")
