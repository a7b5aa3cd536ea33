"""What is rare, misspelt or out of order in a text, by the counts of all texts together."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdaudit.metrics.traits import (
    COUNTED,
    N_CHARACTER_FEATURES,
    NAMES,
    PRIOR,
    character_counts,
    character_features,
    oddity,
)

COMMON = ["the patient reports a little pain at night"] * 9


def column(texts: list[str], name: str) -> list[float]:
    values: list[float] = oddity(texts)[:, NAMES.index(name)].tolist()
    return values


def test_singletons_are_words_of_one_text_alone() -> None:
    texts = ["Mild pain and Vodrel", "mild pain and rash", "and rash"]
    assert column(texts, "singletons") == [1, 0, 0]
    assert column(texts, "capital singletons") == [1, 0, 0]
    assert column(texts, "words of two texts") == [2, 3, 1]
    assert column(texts, "share of singletons") == [0.25, 0, 0]


@pytest.mark.parametrize("written", ["pateint", "patent", "patientt", "pasient", "patlent"])
def test_a_word_one_edit_from_a_frequent_one_is_a_near_miss(written: str) -> None:
    texts = [*COMMON, COMMON[0].replace("patient", written), COMMON[0].replace("patient", "doctor")]
    assert column(texts, "near misses") == [0] * 9 + [1, 0]


def test_a_doubled_word_is_counted() -> None:
    assert column([*COMMON, "the the patient"], "doubled words") == [0] * 9 + [1]


def test_an_exchange_is_undone_with_the_gain_of_the_counts() -> None:
    """By hand: 'b a' stands where nine texts have 'a b'; three pairs of words change."""
    texts = ["x a b y"] * 9 + ["x b a y"]
    gains = column(texts, "largest gain of exchanged words")
    assert gains[-1] == pytest.approx(3 * np.log((9 + PRIOR) / (0 + PRIOR)), rel=1e-5)
    assert gains[0] == pytest.approx(3 * np.log((1 + PRIOR) / (8 + PRIOR)), rel=1e-5)
    characters = column([*COMMON, COMMON[0].replace("patient", "pateint")], "largest gain of exchanged characters")
    assert characters[-1] > 10 > 0 > max(characters[:-1])


def test_what_no_other_text_holds_surprises_and_its_own_occurrence_does_not_help() -> None:
    mean = column([*COMMON, "zqxj vkwz"], "character surprise")
    assert mean[-1] > 4 > 0.5 > mean[0]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=6))
def test_any_texts_are_measured(texts: list[str]) -> None:
    found = oddity(texts)
    assert found.shape == (len(texts), len(NAMES))
    assert np.isfinite(found).all()
    raw = character_features(texts)
    assert raw.shape == (len(texts), N_CHARACTER_FEATURES)
    assert np.isfinite(raw).all()
    assert character_counts(texts).shape[0] == len(texts)


def test_the_order_of_the_texts_does_not_matter() -> None:
    texts = [*COMMON[:3], "mild pain, and no rash", "the the patient", "Vodrel 20 mg at night", ""]
    assert np.allclose(oddity(texts[::-1])[::-1], oddity(texts))


def test_lone_surrogates_and_empty_texts_are_measured() -> None:
    texts = ["", "\ud800", "\x00", "a"]
    assert np.isfinite(oddity(texts)).all()
    assert np.isfinite(character_features(texts)).all()
    assert oddity([]).shape == (0, len(NAMES))
    assert character_features([]).shape == (0, N_CHARACTER_FEATURES)


@pytest.mark.parametrize("char", COUNTED)
def test_each_kind_of_space_and_mark_is_counted_by_itself(char: str) -> None:
    place = 3 + COUNTED.index(char)
    with_it, without = character_features([f"a{char}b{char}c", "abc"])
    assert with_it[place] == pytest.approx(np.log(3))
    assert without[place] == 0


def test_runs_of_characters_keep_white_space_and_ends_apart() -> None:
    """scikit-learn's analyser would see the first four as one text."""
    texts = ["a b", "a  b", "a\tb", "a\u00a0b", "a b ", " a b", "a b\n"]
    rows = character_counts(texts).toarray()
    assert len({tuple(row) for row in rows}) == len(texts)
    assert rows.sum(axis=1).tolist() == [sum(len(text) + 2 - n + 1 for n in (1, 2, 3)) for text in texts]


def test_it_is_the_same_in_every_process() -> None:
    code = (
        "import numpy as np\n"
        "from kdaudit.metrics.traits import oddity\n"
        "rng = np.random.default_rng(0)\n"
        "words = [''.join(rng.choice(list('abcdefgh'), 5)) for _ in range(3000)]\n"
        "texts = [' '.join(rng.choice(words, 80)) for _ in range(40)]\n"
        "print(oddity(texts).tobytes().hex())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
