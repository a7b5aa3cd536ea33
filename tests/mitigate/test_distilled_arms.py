"""What mitigations ask of a distillation happens in it."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kdaudit import manifest
from kdaudit.audit.lineage import trace
from kdaudit.config import AuditConfig
from kdaudit.distill.learn import rehearse
from kdaudit.distill.prepare import prepare
from kdaudit.distill.run import run_distill
from kdaudit.errors import RecordsError
from tests import tiny
from tests.commands import Given
from tests.mitigate.distilled import config, largest_gap


def test_goldfish_drops_the_same_tokens_whether_the_teacher_is_asked_or_was_written_down(
    given: Given, tmp_path: Path
) -> None:
    whole = {"teacher_cache": tmp_path / "cache", "teacher_top_k": tiny.VOCABULARY}
    run_distill(config(given, tmp_path / "live", goldfish=2))
    run_distill(config(given, tmp_path / "cached", goldfish=2, **whole))
    run_distill(config(given, tmp_path / "all", **whole))
    apart = largest_gap(tmp_path / "live", tmp_path / "all")
    assert apart > 0.01
    assert largest_gap(tmp_path / "live", tmp_path / "cached") < 0.05 * apart  # AdamW makes much of rounding


def test_members_that_are_left_out_are_not_learnt_and_stay_members_of_the_audit(given: Given, tmp_path: Path) -> None:
    settled = prepare(config(given, tmp_path / "student"))
    left_out = [manifest.record_id(settled.key, record.text) for record in settled.assignment.members[::3]]
    content = run_distill(settled.config, left_out=left_out)
    assert len(content["data"]["members"]) == 24
    assert content["data"]["left_out"] == left_out
    assert content["training"]["tokens"] == sum(
        size for i, size in enumerate(settled.plan.sizes) if i % 3
    )  # what was left out takes no part in training
    assert "Trained on 16 records" in (tmp_path / "student" / "README.md").read_text()
    asked = AuditConfig(
        teacher=str(given.teacher), students=(str(tmp_path / "student"),), key_file=settled.config.key_file
    )
    _, lineage = trace(asked)
    assert any("trained without 8 of the 24 members" in note for note in lineage.notes)


def test_leaving_every_member_out_is_refused(given: Given, tmp_path: Path) -> None:
    settled = prepare(config(given, tmp_path / "student"))
    everyone = [manifest.record_id(settled.key, record.text) for record in settled.assignment.members]
    with pytest.raises(RecordsError, match="all 24 members are left out"):
        run_distill(settled.config, left_out=everyone)


def test_the_split_stays_where_only_the_seed_of_the_training_changes(given: Given, tmp_path: Path) -> None:
    plain = config(given, tmp_path / "a", nonmembers=(), teacher_saw="none", holdout="8", limit=20)
    first = prepare(plain).assignment
    assert prepare(replace(plain, seed=5, split_seed=0, out=tmp_path / "b")).assignment == first
    assert prepare(replace(plain, seed=5, out=tmp_path / "c")).assignment != first


@pytest.mark.parametrize(("first", "second"), [(6.0, 2.0), (2.0, 6.0)])
def test_a_rehearsal_gives_the_seconds_per_token_of_its_faster_step_and_leaves_the_students_folder_alone(
    first: float, second: float, given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled = prepare(config(given, tmp_path / "student", sequence_level=True))
    sizes = settled.plan.sizes
    n_tokens = [sum(sizes[i] for part in step for i in part) for step in settled.plan.steps[:2]]
    clock = iter([10.0, 10 + first, 10 + first + second])  # before the first step, after it, after the second
    monkeypatch.setattr(sys.modules[rehearse.__module__], "perf_counter", lambda: next(clock))
    expected = min(first / n_tokens[0], second / n_tokens[1])
    assert rehearse(settled, tmp_path / "rehearsal") == pytest.approx(expected)
    assert next(clock, None) is None
    assert list((tmp_path / "student").iterdir()) == []
