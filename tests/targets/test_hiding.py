"""What is hidden of a text to learn from: other places in every epoch, BERT's shares, nothing that is given."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from kdaudit.distill.batches import is_dropped, learnt
from kdaudit.targets.hiding import Hiding, hidden_places
from kdaudit.targets.masked import Masking, masked_frame
from kdaudit.targets.passage import Passage, encode
from kdaudit.targets.plan import Example, Frame
from tests import encoders, tiny

SPLIT = encoders.word_pieces()
LONG = " ".join(tiny.texts(60, seed=3, n_words=20))


def frame() -> Frame:
    return masked_frame(SPLIT, Masking(), Hiding())


def passage(text: str, prompt: int = 0) -> Passage:
    return encode(SPLIT, [text], [prompt])[0]


def example(text: str = LONG, prompt: int = 0, window: int = 10**6) -> Example:
    found = frame()
    return found.kind.example(passage(text, prompt), found, window)


def test_an_example_is_the_text_between_its_special_tokens_cut_to_the_window() -> None:
    whole, cut = example(), example(window=20)
    assert whole.ids.tolist() == SPLIT(LONG)["input_ids"]
    assert cut.ids.tolist() == [*whole.ids[:19].tolist(), encoders.SEP]
    assert cut.words is not None
    assert cut.words[[0, -1]].tolist() == [-1, -1]
    assert cut.words[1:-1].min() == 0


@given(n=st.integers(1, 80), epoch=st.integers(0, 20), whole_words=st.booleans(), seed=st.integers(0, 5))
def test_the_share_is_exact_and_at_least_one(n: int, epoch: int, whole_words: bool, seed: int) -> None:
    words = np.concatenate([[-1], np.arange(n) // 2, [-1]])
    made = Example(np.arange(n + 2, dtype=np.int32), 1, words=words, key="text")
    places, _ = hidden_places(made, Hiding(seed, whole_words=whole_words), epoch)
    units = np.unique(words[places]).size if whole_words else places.size
    n_units = (n + 1) // 2 if whole_words else n
    assert units == min(n_units, max(1, round(0.15 * n_units)))
    assert (np.diff(places) > 0).all()
    assert (words[places] >= 0).all()
    if whole_words:
        assert set(places) == set(np.flatnonzero(np.isin(words, words[places])))


def test_epochs_seeds_and_texts_differ_and_nothing_else_moves_the_draw() -> None:
    made = example()
    drawn = {
        name: tuple(hidden_places(one, Hiding(seed), epoch)[0])
        for name, one, seed, epoch in (
            ("first", made, 0, 0), ("epoch", made, 0, 1), ("seed", made, 1, 0),
            ("text", replace(made, key="another"), 0, 0),
        )
    }  # fmt: skip
    assert len(set(drawn.values())) == 4
    assert drawn["first"] == tuple(hidden_places(example(), Hiding(0), 0)[0])


@pytest.mark.parametrize("whole_words", [False, True])
def test_every_place_is_hidden_as_often_as_every_other(whole_words: bool) -> None:
    made = example(" ".join(tiny.texts(1, seed=5, n_words=40)))
    assert made.words is not None
    n_units = int(made.words.max()) + 1 if whole_words else int((made.words >= 0).sum())
    share = round(0.15 * n_units) / n_units
    counts = np.zeros(made.ids.size, dtype=int)
    for epoch in range(400):
        counts[hidden_places(made, Hiding(0, whole_words=whole_words), epoch)[0]] += 1
    assert counts[made.words < 0].sum() == 0
    level = 1e-4 / n_units
    assert all(binomtest(int(n), 400, share).pvalue > level for n in counts[made.words >= 0])


def test_of_the_hidden_tokens_80_percent_become_the_mask_10_another_token_and_10_stay() -> None:
    kind, made = frame().kind, example()
    fates = {"mask": 0, "swapped": 0, "kept": 0}
    special = set(SPLIT.all_special_ids)
    for epoch in range(12):
        showing = kind.learn(made, epoch)
        assert (showing.targets == made.ids[showing.columns]).all()
        untouched = np.setdiff1d(np.arange(made.ids.size), showing.columns)
        assert (showing.ids[untouched] == made.ids[untouched]).all()
        shown = showing.ids[showing.columns]
        is_mask, is_kept = shown == encoders.MASK, shown == showing.targets
        assert not special & set(shown[~is_mask].tolist())
        fates["mask"] += int(is_mask.sum())
        fates["kept"] += int(is_kept.sum())
        fates["swapped"] += int((~is_mask & ~is_kept).sum())
    total = sum(fates.values())
    n_others = len(SPLIT) - len(special)
    wanted = {"mask": 0.8, "swapped": 0.1 * (1 - 1 / n_others), "kept": 0.1 * (1 + 1 / n_others)}
    assert total > 1000
    for fate, share in wanted.items():
        assert binomtest(fates[fate], total, share).pvalue > 1e-4, fate


def test_the_prompt_of_a_record_is_read_and_never_hidden() -> None:
    text = "pain in the knee, worse at night since monday"
    made, kind = example(text, prompt=16), frame().kind
    assert made.n_given > 1
    for epoch in range(30):
        showing = kind.learn(made, epoch)
        assert showing.columns.min() >= made.n_given
        assert showing.ids[: made.n_given].tolist() == made.ids[: made.n_given].tolist()


def test_a_prompt_that_fills_the_window_leaves_nothing_to_learn() -> None:
    made = example("pain in the knee, worse at night", prompt=30, window=6)
    assert frame().kind.learn(made, 0).targets.size == 0


def test_the_goldfish_loss_leaves_the_same_tokens_out_whatever_is_hidden() -> None:
    made, kind = example(), frame().kind
    dropped = is_dropped(made.ids, 3)
    for epoch in range(5):
        whole, some = kind.learn(made, epoch), learnt(made, epoch, kind, 3)
        assert some.columns.tolist() == [c for c in whole.columns if not dropped[c]]
        assert some.columns.size < whole.columns.size


def test_a_frame_that_is_for_scoring_refuses_to_teach() -> None:
    with pytest.raises(ValueError, match="Hiding"):
        masked_frame(SPLIT, Masking()).kind.learn(example(), 0)
