"""Gates on the command line: from a trained leak to an exit code."""

import re
from pathlib import Path

import pytest

from kdaudit.errors import ExitCode
from tests import tiny
from tests.commands import Given, counted_loads, halves, kdaudit, read_texts, results

TRAINING = ("--objective", "hard", "--epochs", 12, "--lr", 5e-3, "--batch-tokens", 160, "--quiet")
OPTIONS = ("--attack", "loss", "--attack", "min-k")


@pytest.fixture(scope="module")
def leaky(given: Given, tmp_path_factory: pytest.TempPathFactory) -> tuple[Given, Path]:
    """A student that was trained on the members, beside a teacher that was not, and the folder of their run."""
    folder = tmp_path_factory.mktemp("leaky")
    members, nonmembers = halves(folder, 210, seed=11)
    trained = kdaudit(
        "distill", "--teacher", given.teacher, "--student", given.start, "--train", members, "--nonmembers", nonmembers,
        "--out", folder / "student", *TRAINING,
    )  # fmt: skip
    assert trained.code == 0, trained.err
    pair = given.having(student=folder / "student", members=members, nonmembers=nonmembers)
    done = pair.attack(folder / "run", *OPTIONS)
    assert done.code == 0, done.err
    return pair, folder / "run"


@pytest.mark.parametrize(
    ("gates", "status", "code"),
    [
        ([], "not_gated", ExitCode.PASSED),
        (["student.auc <= 0.6"], "fail", ExitCode.GATE_FAILED),
        (["difference.auc[loss] <= 0.02"], "fail", ExitCode.GATE_FAILED),
        (["teacher.auc <= 0.7"], "pass", ExitCode.PASSED),
        (["teacher.auc <= 0.7", "student.auc[loss] <= 0.6"], "fail", ExitCode.GATE_FAILED),
        (["teacher.auc <= 0.5"], "inconclusive", ExitCode.INCONCLUSIVE),
        (["student.tpr@0.001 <= 0.05"], "inconclusive", ExitCode.INCONCLUSIVE),
    ],
)
def test_the_verdict_is_the_exit_code(gates: list[str], status: str, code: ExitCode, leaky: tuple[Given, Path]) -> None:
    pair, out = leaky
    options = [part for gate in gates for part in ("--gate", gate)]
    with counted_loads() as loads:
        done = pair.attack(out, *OPTIONS, *options)
    assert done.code == code, done.out
    assert loads == []
    verdict = results(out)["verdict"]
    assert verdict["status"] == status
    assert len(verdict["gates"]) == len(gates)
    assert done.out.count(verdict["sentence"]) == 1
    assert verdict["next_step"] in done.out
    for gate in verdict["gates"]:
        assert gate["gate"] in done.out
    for lowered in ("fail: fail", "pass: pass", "inconclusive: inconclusive"):
        assert lowered not in done.out.lower()


@pytest.mark.parametrize("gate", ["student.auc <= 0.6", "teacher.auc <= 0.5"])
def test_exit_zero_keeps_the_verdict_and_drops_the_code(gate: str, leaky: tuple[Given, Path]) -> None:
    pair, out = leaky
    done = pair.attack(out, *OPTIONS, "--gate", gate, "--exit-zero")
    assert done.code == 0
    assert results(out)["verdict"]["status"] in ("fail", "inconclusive")


def test_exit_zero_hides_no_error(leaky: tuple[Given, Path]) -> None:
    pair, out = leaky
    assert pair.attack(out, *OPTIONS, "--gate", "student.auc <= 2", "--exit-zero").code == ExitCode.BAD_INPUT
    assert pair.having(student=out / "none").attack(out, *OPTIONS, "--exit-zero").code == ExitCode.BAD_INPUT


def test_a_failed_gate_names_its_cell_in_the_table_and_in_the_summary(leaky: tuple[Given, Path]) -> None:
    pair, out = leaky
    done = pair.attack(out, *OPTIONS, "--gate", "student.auc <= 0.6")
    assert done.code == 1
    (gate,) = results(out)["verdict"]["gates"]
    row = next(line for line in done.out.splitlines() if line.startswith("student.auc<=0.6"))
    assert gate["deciding_attack"] in row
    assert f"at least {gate['bound']:.3f}" in row
    assert f"({100 * gate['level']:.4g} %, corrected for" in done.out
    summary = (out / "summary.md").read_text(encoding="utf-8")
    assert "**Fail: 1 of 1 limit broken**" in summary
    assert re.search(rf"\| student.auc&#60;=0.6 \| ✕ fail \| [^|]* \| {re.escape(gate['deciding_attack'])} \|", summary)


def test_constant_scores_are_no_figure_and_no_pass(given: Given, tmp_path: Path) -> None:
    """A text whose lower-cased form is itself scores 0 on lowercase, whatever the model."""
    members, nonmembers = (
        tiny.write_jsonl(tmp_path / path.name, [text.lower() for text in read_texts(path).values()], prefix=path.stem)
        for path in (given.members, given.nonmembers)
    )
    lower = given.having(members=members, nonmembers=nonmembers)
    done = lower.attack(tmp_path / "run", "--attack", "lowercase", "--gate", "student.auc[lowercase] <= 0.9")
    assert done.code == ExitCode.INCONCLUSIVE, done.err
    found = results(tmp_path / "run")
    auc = found["attacks"]["lowercase"]["student"]["auc"]
    assert (auc["value"], auc["low"], auc["reason"]) == (None, None, "scores do not vary")
    assert "scores do not vary" in found["verdict"]["gates"][0]["reason"]
