"""Trivial formats that one set has more often than the other."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import hypergeom

from kdaudit.metrics.texts import LEVEL, TEXT_FORMATS, format_differences

TEXTS = [f"She said: it's number {i}, and so on. Then the next one came." for i in range(400)]


def named(members: list[str], nonmembers: list[str]) -> list[str]:
    return [found.name for found in format_differences(members, nonmembers)]


CASES: list[tuple[str, Callable[[str], str]]] = [
    ("white space at the end", lambda text: f"{text} "),
    ("white space at the start", lambda text: f" {text}"),
    ("carriage returns", lambda text: f"{text[:20]}\r{text[20:]}"),
    ("line breaks", lambda text: text.replace(", ", ",\n")),
    ("tabs", lambda text: text.replace(", ", ",\t")),
    ("runs of spaces", lambda text: text.replace("and so", "and  so")),
    ("two spaces after a full stop", lambda text: text.replace(". ", ".  ")),
    ("special spaces", lambda text: text.replace("so on", "so\u00a0on")),
    ("invisible characters", lambda text: text.replace("number", "num\u00adber")),
    ("a byte order mark", lambda text: f"\ufeff{text}"),
    ("characters that are not composed (not NFC)", lambda text: text.replace("one", "ne\u0301e")),
    ("curly quotes", lambda text: text.replace("'", "\u2019")),
    ("straight quotes", lambda text: text.replace("it's", "it is")),
    ("long dashes", lambda text: text.replace(", and", " \u2014 and")),
    ("an ellipsis as one character", lambda text: text.replace("and so on", "\u2026")),
    ("HTML entities", lambda text: text.replace("'", "&#39;")),
    ("UTF-8 that was read as another encoding", lambda text: text.replace("'", "\u00e2\u20ac\u2122")),
    ("no mark at the end", lambda text: text.removesuffix(".")),
    ("a small first letter", lambda text: text[0].lower() + text[1:]),
]


@pytest.mark.parametrize(("name", "change"), CASES)
def test_each_format_is_named_where_one_set_has_it(name: str, change: Callable[[str], str]) -> None:
    found = {one.name: one for one in format_differences(TEXTS[:200], [change(text) for text in TEXTS[200:]])}
    assert {found[name].members, found[name].nonmembers} == {0.0, 1.0}
    assert found[name].mend


def test_every_format_of_the_table_has_its_case() -> None:
    assert [name for name, _ in CASES] == [each.name for each in TEXT_FORMATS]


def test_sets_that_are_both_written_so_do_not_differ() -> None:
    odd = [f"\ufeff{text}\r\n" for text in TEXTS]
    assert named(odd[:200], odd[200:]) == []
    assert format_differences([], TEXTS) == ()


def test_a_difference_needs_more_than_chance_and_more_than_a_hundredth() -> None:
    few = [f"{text} " if i < 6 else text for i, text in enumerate(TEXTS)]
    assert named(few[:200], few[200:]) == []  # 6 of 200 against none: p = 0.03 before the correction
    many = [f"text {i}." for i in range(40_000)]
    rare = [f"{text} " if i < 190 else text for i, text in enumerate(many)]
    assert named(rare[:20_000], rare[20_000:]) == []  # surely more, in fewer than one of a hundred


def test_the_p_value_is_fishers_times_the_number_of_formats() -> None:
    nonmembers = [f"{text} " if i < 20 else text for i, text in enumerate(TEXTS[200:])]
    (found,) = format_differences(TEXTS[:200], nonmembers)
    one_sided = hypergeom.sf(19, 400, 20, 200)  # all 20 fall into one half
    assert found.p_value == pytest.approx(2 * one_sided * len(TEXT_FORMATS))
    assert found.p_value < LEVEL
    assert (found.members, found.nonmembers) == (0, 0.1)


def test_random_halves_are_rarely_said_to_differ() -> None:
    rng = np.random.default_rng(0)
    changes: list[Callable[[str], str]] = [str.strip, lambda text: f"{text} ", lambda text: text.replace("'", "\u2019")]
    n_named = 0
    for _ in range(100):
        texts = [changes[rng.integers(3)](text) for text in TEXTS]
        n_named += bool(named(texts[:200], texts[200:]))
    assert n_named <= 4  # at most 1 % are expected
