"""What a user's files decide, before any format shows it."""

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.report.text import (
    MAX_CHARACTERS,
    change,
    counted,
    difference,
    interval,
    level,
    number,
    p_value,
    plain,
    signed,
    visible,
)
from tests.report.small import AUC, GAIN, TOO_FEW


@given(st.text(max_size=3000))
def test_any_text_becomes_a_short_line_in_which_every_character_shows(text: str) -> None:
    shown = plain(text)
    assert len(shown) <= MAX_CHARACTERS
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a name", "a name"),
        ("two\n lines\t", "two lines"),
        ("safe\u202etxt.exe", "safe⟨U+202E⟩txt.exe"),
        ("\u200f\u2066\ufeff", "⟨U+200F⟩⟨U+2066⟩⟨U+FEFF⟩"),
        ("\x00\x1b[31m", "⟨U+0000⟩⟨U+001B⟩[31m"),
        ("Ünïcode שלום 名前", "Ünïcode שלום 名前"),
    ],
)
def test_direction_marks_and_controls_are_written_as_what_they_are(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_text_of_ten_kilobytes_ends_in_an_ellipsis() -> None:
    assert plain("x" * 10_000) == "x" * (MAX_CHARACTERS - 1) + "…"
    assert plain("x" * MAX_CHARACTERS) == "x" * MAX_CHARACTERS


def test_what_is_to_be_repeated_keeps_its_spaces() -> None:
    assert visible("kdaudit attack --out 'a  b'") == "kdaudit attack --out 'a  b'"
    assert visible("a\nb") == "a⟨U+000A⟩b"


@pytest.mark.parametrize(
    ("form", "figure", "expected"),
    [
        (interval, AUC, "0.812 [0.799, 0.826]"),
        (interval, None, "–"),
        (interval, TOO_FEW, "– (needs 299 non-members)"),
        (interval, replace(AUC, low=None), "–"),
        (level, TOO_FEW, "–"),
        (difference, GAIN, "+0.057 [+0.050, +0.064]"),
        (difference, replace(GAIN, value=-0.25, low=-0.5), "-0.250 [-0.500, +0.064]"),
        (difference, None, "–"),
        (change, replace(GAIN, value=None, reason="too few"), "–"),
        (signed, replace(AUC, low=None, reason="too few"), "+0.81 (too few)"),
        (signed, AUC, "+0.81 [+0.80, +0.83]"),
        (p_value, 0.012, "0.012"),
        (p_value, 0.0004, "< 0.001"),
        (p_value, None, "–"),
        (number, 0.25, "0.250"),
        (number, None, "–"),
    ],
)
def test_a_figure_reads_as_agreed(form: Callable[[Any], str], figure: Any, expected: str) -> None:
    assert form(figure) == expected


def test_one_is_not_several() -> None:
    told = [counted(1, "epoch"), counted(0.5, "epoch"), counted(1200, "record"), counted(2, "pass", "passes")]
    assert told == ["1 epoch", "0.5 epochs", "1,200 records", "2 passes"]
