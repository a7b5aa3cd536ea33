"""Patterns of an adapter that never come to an end are refused; all others are peft's business."""

import time

import pytest

from kdaudit.errors import CheckpointError
from kdaudit.models import adapters
from kdaudit.models.adapters import check_patterns

NAMES = [f"transformer.h.{i}.attn.c_attn" for i in range(500)]


def test_a_pattern_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "SECONDS", 1)
    for settings in ({"target_modules": r"(.+)+\d\d$"}, {"rank_pattern": {r"(.+)+\d\d": 3}}):
        started = time.monotonic()
        with pytest.raises(CheckpointError, match=r"^x: matching its patterns .* takes more than 1 seconds$"):
            check_patterns(settings, NAMES, "x")
        assert time.monotonic() - started < 10


def test_ordinary_and_broken_patterns_pass() -> None:
    for value in (r".*\.(c_attn|q_proj)$", "((", "all-linear", ["c_attn", "c_proj"], None, 3):
        check_patterns({"target_modules": value, "alpha_pattern": {r"h\.1\..*": 2}}, NAMES, "x")
