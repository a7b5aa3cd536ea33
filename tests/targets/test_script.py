"""Texts with parts that are read only: what is scored, other words, other surroundings, and where places lie."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.targets.causal import causal_frame
from kdaudit.targets.hiding import Hiding, hidden_places
from kdaudit.targets.masked import Masking, masked_frame
from kdaudit.targets.script import script_from
from tests import tiny
from tests.encoders import word_pieces

PARTS = st.lists(st.tuples(st.text("pqr", max_size=4), st.text("abc", min_size=1, max_size=5)), min_size=1, max_size=4)


@given(PARTS, st.data())
def test_a_place_in_words_lies_at_the_same_words_among_other_surroundings(
    parts: list[tuple[str, str]], data: st.DataObject
) -> None:
    script = script_from(parts)
    others = data.draw(st.lists(st.text("xyz", max_size=6), min_size=len(parts), max_size=len(parts)))
    other = script.spoken(others)
    assert "".join(c for c in other.text if c in "abc") == "".join(words for _, words in parts)
    for cut in range(len(script.text) + 1):
        there = script.place_in(other, cut)
        assert other.scored(there) == script.scored(cut)
        assert script.scored(other.place_in(script, there)) == script.scored(cut)
    assert script.place_in(script, 3) == 3


@given(PARTS, st.integers(0, 40))
def test_variants_change_the_words_and_nothing_else(parts: list[tuple[str, str]], cut: int) -> None:
    script = script_from(parts)
    made = script.variants(cut, lambda words: [words.upper(), words])
    assert len(made) == 2
    assert made[1].scored(len(made[1].text)) == script.scored(cut)
    assert made[0].text.lower() == made[1].text
    assert script.text.startswith(made[1].text[: max(cut, script.n_prompt)])
    assert not any(c.isupper() for start, end in made[0].read_only for c in made[0].text[start:end])


def test_a_causal_model_predicts_words_alone_and_reads_all() -> None:
    split = tiny.tokenizer(bos=True)
    script = script_from([("the patient ", "reports pain "), ("in left ", "knee since "), ("Monday ", "pain")])
    (passage,) = causal_frame(split).encode(split, [script])
    frame = causal_frame(split)
    (showing,) = frame.plan(passage).showings
    assert showing.ids.tolist() == split(script.text)["input_ids"]
    ends = passage.char_end[showing.tokens]
    read_only = [range(start + 1, end + 1) for start, end in script.read_only]
    starts = np.concatenate([[0], passage.char_end[:-1]])[showing.tokens]
    assert all(
        not any(end in one and start + 1 in one for one in read_only) for start, end in zip(starts, ends, strict=True)
    )
    assert set(range(passage.ids.size)) - set(showing.tokens.tolist()) == {
        k for k, end in enumerate(passage.char_end)
        if any(start <= (passage.char_end[k - 1] if k else 0) and end <= after for start, after in script.read_only)
    }  # fmt: skip
    example = frame.kind.example(passage, frame, 64)
    learnt = frame.kind.learn(example, 0)
    assert learnt.targets.tolist() == [
        *showing.targets.tolist(),
        *([split.eos_token_id] if frame.end is not None else []),
    ]


@pytest.mark.parametrize("plan", ["partition", "pll", "pll-word", "random:20"])
def test_nothing_but_words_is_hidden_from_a_masked_model(plan: str) -> None:
    split = word_pieces()
    script = script_from([("the patient ", "reports pain "), ("in left ", "knee since "), ("Monday ", "pain")])
    frame = masked_frame(split, Masking(plan), Hiding())
    (passage,) = frame.encode(split, [script])
    scored = {int(token) for one in frame.plan(passage).showings for token in one.tokens}
    assert scored <= set(passage.scored.tolist())
    assert plan == "random:20" or scored == set(passage.scored.tolist())
    assert 0 < len(passage.scored) < passage.ids.size
    example = frame.kind.example(passage, frame, 64)
    hidden = {int(k) for epoch in range(40) for k in hidden_places(example, Hiding(), epoch)[0]}
    assert hidden == {len(frame.lead) + int(k) for k in passage.scored}
