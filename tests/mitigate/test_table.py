"""From figures to the table: which members a finding rests on, and what is said of those that are too few."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kdaudit.metrics.frontier import Frontier, Placed, PlainPoint, Point
from kdaudit.mitigate import table
from kdaudit.mitigate.base import Operation, Selection
from kdaudit.mitigate.figures import Groups, Roster
from kdaudit.mitigate.table import Made
from kdaudit.results.mitigation import Arm
from tests.mitigate.test_settings import config

N = 50


def made(*, is_vulnerable: Any = None, kept: int = 30, n_unscored: int = 0) -> Made:
    members = np.arange(N)
    selection = Selection(members[:kept], members[N - kept :], N, n_unscored)
    roster = Roster(({1.0: Path("plain")},), {}, {}, None)
    groups = Groups(is_vulnerable, "" if is_vulnerable is not None else "3 members would be in the smaller one")
    return Made(roster, {"bottleneck": Operation(2)}, {"non-vulnerable": selection}, groups)


def test_a_finding_rests_on_kept_and_dropped_members_or_on_those_that_the_teacher_gives_away() -> None:
    asked = config("non-vulnerable", "lora")
    found = table._groups(asked, made(is_vulnerable=np.arange(N) % 2 == 0), N)
    assert {arm: list(groups) for arm, groups in found.items()} == {
        "non-vulnerable": ["kept", "dropped"], "non-vulnerable-control": ["kept", "dropped"],
        "lora": ["given away", "the others"],
    }  # fmt: skip
    assert found["non-vulnerable"]["dropped"].tolist() == list(range(30, 50))
    assert found["non-vulnerable-control"]["dropped"].tolist() == list(range(20))
    assert found["lora"]["given away"].tolist() == list(range(0, N, 2))
    assert found["lora"]["the others"].tolist() == list(range(1, N, 2))


def test_a_group_of_fewer_than_20_members_is_not_judged_apart_and_said_to_be_too_small() -> None:
    asked = config("non-vulnerable", "lora")
    found = table._groups(asked, made(kept=31), N)
    assert {arm: list(groups) for arm, groups in found.items()} == {
        "non-vulnerable": ["kept"], "non-vulnerable-control": ["kept"], "lora": [],
    }  # fmt: skip
    assert table._of_selection(made(kept=30).selections["non-vulnerable"]) == ()
    assert table._of_selection(made(kept=31, n_unscored=2).selections["non-vulnerable"]) == (
        "2 members could not be scored on the teacher and were kept",
        "19 dropped members are too few to be judged apart, and 20 are the least",
    )
    assert table._of_selection(None) == ()


@pytest.mark.parametrize(
    ("changes", "distill", "is_grouped", "said"),
    [
        ({}, {}, True, []),
        ({"seeds": 1}, {}, True, ["one seed cannot tell luck from help"]),
        ({}, {}, False, ["findings rest on all members together"]),
        ({}, {"nonmembers": (), "teacher_saw": "none"}, True, []),
        ({}, {"nonmembers": (), "teacher_saw": "train"}, True, ["the held-out records may have been in the teacher"]),
    ],
)
def test_a_warning_stands_where_a_finding_is_worth_less(
    changes: dict[str, Any], distill: dict[str, Any], is_grouped: bool, said: list[str]
) -> None:
    groups = made(is_vulnerable=np.arange(N) < 25 if is_grouped else None).groups
    found = table._warnings(config("lora", distill=distill, **changes), groups)
    assert len(found) == len(said)
    for warning, words in zip(found, said, strict=True):
        assert words in warning
        assert is_grouped or "3 members would be in the smaller one" in warning


def test_records_without_a_score_are_counted_by_attack_over_all_students() -> None:
    scores = {
        "loss": {"student": np.array([1, np.nan, 3, 4]), "student-2": np.array([1, 2, np.nan, 4])},
        "min-k": {"student": np.ones(4), "student-2": np.ones(4)},
    }
    scored: Any = SimpleNamespace(
        attacks=("loss", "min-k"), subject_of={Path("a"): "student", Path("b"): "student-2"},
        scores=SimpleNamespace(by_attack=scores),
    )  # fmt: skip
    assert table._not_scored(scored) == ["2 records without a score under loss are left out for every student"]


def test_a_plain_run_is_the_point_of_its_run_and_epoch_and_no_evidence_by_itself() -> None:
    at = ((3.5, 0.60, 2, 1.0), (3.0, 0.70, 2, 2.0), (3.2, 0.62, 1, 1.0))
    points = tuple(PlainPoint(*one, is_stair=True) for one in at)
    frontier = Frontier(points, {})
    found = table._on_frontier(frontier, 1, 1)
    assert found.point == Point(3.2, 0.62)
    assert (found.finding, found.reason) == ("no evidence", table.ON_IT)
    assert table._on_frontier(frontier, 3, 3).point is None


def test_where_the_sets_differ_by_themselves_no_arm_is_found_to_help() -> None:
    helps = Placed(Point(3.0, 0.6), {}, "helps", "leaks less")
    arm = Arm(
        method="lora", summary="", students=(), attacks={}, placed={"loss": {"auc": helps}}, finding="helps",
        reason="leaks less",
    )  # fmt: skip
    found = table._without_evidence(arm)
    assert (found.finding, found.reason) == ("no evidence", table.NOT_COMPARABLE)
    assert found.placed["loss"]["auc"] == replace(helps, finding="no evidence", reason=table.NOT_COMPARABLE)


def test_what_no_gate_can_be_held_against_is_left_out() -> None:
    names = ("auc", "tpr@0.01", "balanced_accuracy", "member_success", "nonmember_success")
    assert list(table._gateable(dict.fromkeys(names, 1))) == ["auc", "tpr@0.01", "balanced_accuracy"]
