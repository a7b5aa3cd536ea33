"""mitigation.json: what was written is what is read, and nothing else is taken for it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kdaudit.errors import ConfigError, ExitCode
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.frontier import ALL, Beside, Placed, PlainPoint, Point
from kdaudit.results import Overlap
from kdaudit.results.audit import (
    AttackResult,
    AuditedModel,
    Cell,
    ComparedRecords,
    Comparison,
    GateResult,
    Source,
    Validity,
)
from kdaudit.results.mitigation import SCHEMA, Arm, Leak, Mitigation, Student, load, save, to_json

LEAK = Leak(
    {
        "auc": Estimate(0.8, 0.78, 0.82, 500, 490, logit_value=1.4, logit_se=0.1),
        "tpr@0.01": Estimate(None, reason="needs 99 non-members, there are 50"),
    },
    {"auc": Difference(-0.05, -0.07, -0.03, 0.001, n=500, m=490, se=0.01)},
)
STUDENT = Student(
    0, "arms/bottleneck/0", Estimate(3.3, 3.2, 3.4, 490), Estimate(1.1, n=490), {"loss": LEAK}, n_replaced=2
)
BESIDE = Beside(500, 0.8, 0.81, Difference(-0.01, -0.03, 0.01, 0.3), 0.9, Difference(-0.1, -0.12, -0.08, 0.01))
PLACED = Placed(
    Point(3.3, 0.8), {ALL: BESIDE, "kept": replace(BESIDE, n=200, next_stair=None, excess=None)}, "no evidence", "why",
    0.6,
    vs_control=Difference(0.01, -0.01, 0.03),
)  # fmt: skip
OUTSIDE = Placed(None, {}, "no evidence", "scores do not vary")
AUDIT = AttackResult(
    1, False, {"teacher": Cell("not_applicable", "why"), "student": Cell("ok", figures=LEAK.figures, unscored=10)},
    {"student": Comparison("not_applicable", "why")}, {}, {}, {},
)  # fmt: skip
ARM = Arm(
    "bottleneck", "a narrow layer", (STUDENT,), {"loss": AUDIT},
    {"loss": {"auc": PLACED, "tpr@0.01": OUTSIDE}}, "no evidence", "why",
    gates=(GateResult("student.auc<=0.9", "pass", "", "student", "auc", 0.9),), warnings=("careful",),
)  # fmt: skip
SOURCE = Source("--train", "members.jsonl", 500, 0, "cd")
TABLE = Mitigation(
    "0.1", {"teacher": AuditedModel("t", 9)}, ComparedRecords(500, 490, "ab", (SOURCE,)), "loss", "auc",
    (replace(STUDENT, epoch=1, n_replaced=None, checkpoint="plain/0/1"),),
    {
        "loss": {
            "auc": (PlainPoint(3.6, 0.6, 0, 0.0, is_stair=True), PlainPoint(3.2, 0.85, 5, 1.25, is_stair=False)),
            "tpr@0.01": (),
        }
    },
    {
        "bottleneck": ARM,
        "random": replace(ARM, control_of="bottleneck", subsets={"kept": {"loss": Estimate(0.7)}}),
    },
    Validity("ok", Estimate(0.51, 0.47, 0.55), "tfidf", {}, {}, Overlap(13), ()),
    {"epochs": 5}, recommended="bottleneck",
    measured="2026-11-26", command="kdaudit mitigate", versions={"python": "3.11.7"},
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(TABLE, tmp_path / "mitigation.json")
    return tmp_path / "mitigation.json"


def test_what_was_saved_is_what_is_loaded_and_gives_the_same_bytes(path: Path) -> None:
    found = load(path)
    assert found == TABLE
    before = path.read_bytes()
    save(found, path)
    assert path.read_bytes() == before
    assert json.loads(before)["schema"] == SCHEMA


def test_a_number_that_is_not_finite_is_never_written() -> None:
    broken = replace(TABLE, config={"lr": float("nan")})
    with pytest.raises(ValueError, match=r"mitigation\.config\.lr is nan"):
        to_json(broken)


def test_keys_of_a_later_version_are_ignored(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "more": [1]}))
    assert load(path) == TABLE


CHANGES: list[tuple[Callable[[Any], Any], str]] = [
    (lambda top: top.update(schema="kdaudit.results/1"), "its schema is 'kdaudit.results/1'"),
    (lambda top: top.pop("schema"), "its schema is None"),
    (lambda top: top.pop("arms"), "arms is missing"),
    (lambda top: top["arms"]["random"].update(finding="wins"), r"arms\.random\.finding is 'wins'"),
    (lambda top: top["arms"]["random"].update(control_of="x"), "control_of is 'x', which is not an arm"),
    (lambda top: top.update(recommended="x"), "recommended is 'x', which is not an arm"),
    (lambda top: top["arms"]["random"]["placed"].pop("loss"), "has no auc of loss"),
    (lambda top: top["arms"]["random"]["placed"]["loss"].pop("tpr@0.01"), "has no tpr@0.01 of loss"),
    (lambda top: top["arms"]["random"].update(students=[]), r"arms\.random\.students is empty"),
    (lambda top: top["arms"]["random"]["attacks"].pop("loss"), r"arms\.random\.attacks has not all of loss"),
    (lambda top: top["arms"]["random"].pop("attacks"), r"arms\.random\.attacks is missing"),
    (
        lambda top: top["arms"]["random"]["attacks"]["loss"]["cells"].pop("student"),
        r"arms\.random\.attacks\.loss\.cells has no student",
    ),
    (lambda top: top.update(arms={}, recommended=None), "arms is empty"),
    (lambda top: top.pop("validity"), "validity is missing"),
    (lambda top: top["plain"][0]["leaks"].pop("loss"), r"a student has no leaks\.loss"),
    (lambda top: top["frontier"]["loss"].pop("auc"), "frontier has no auc of loss"),
    (lambda top: top["plain"][0].update(seed="0"), r"plain\[0\]\.seed is '0', not of type int"),
    (lambda top: top["plain"][0]["nll"].update(value="3"), r"plain\[0\]\.nll\.value is '3'"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES, ids=[message for _, message in CHANGES])
def test_another_file_is_refused_with_what_is_wrong(path: Path, change: Callable[[Any], Any], message: str) -> None:
    layout = json.loads(path.read_text())
    change(layout)
    path.write_text(json.dumps(layout))
    with pytest.raises(ConfigError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "kdaudit mitigate" in caught.value.hint
    assert caught.value.exit_code == ExitCode.BAD_INPUT


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"schema": NaN}'])
def test_what_is_no_json_object_is_refused(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(ConfigError, match=str(path)):
        load(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(path.with_name("absent.json"))
