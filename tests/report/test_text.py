"""What a user's files decide, before any format shows it."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.report.text import MAX_CHARACTERS, plain, visible


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
