"""Prompts and completions are cut where the model that stops first has to stop, each side by itself."""

import numpy as np

from kdaudit.attacks.lowercase import LOWERCASED
from kdaudit.attacks.recall import PREFIXED
from kdaudit.targets.script import Script
from kdaudit.targets.seq2seq import pair_frame
from kdaudit.views.build import Passages, build
from kdaudit.views.view import PLAIN
from tests import pairs

WINDOW = 24
TOKENIZERS = (pairs.tokenizer("t5"), pairs.tokenizer("bart", seed=7))
FRAMES = (pair_frame(TOKENIZERS[0], 0, "t5"), pair_frame(TOKENIZERS[1], 1, "bart"))
LONG = " ".join(["swelling naïve café"] * 8)
RECORDS = [("sum up: knee", "pain"), (LONG, "no fever"), ("in", LONG), (LONG, LONG), ("", "中文 knee"), ("", LONG)]


def built(*, shots: tuple[str, ...] = ("knee",)) -> Passages:
    return build(
        [Script(prompt + completion, len(prompt)) for prompt, completion in RECORDS], TOKENIZERS, FRAMES,
        views=[LOWERCASED, PREFIXED], shots=shots, window=WINDOW,
    )  # fmt: skip


def test_each_side_of_every_view_fits_into_the_window() -> None:
    passages = built()
    assert passages.n_shots == 1
    for view in (PLAIN, LOWERCASED, PREFIXED):
        for k in range(2):
            plans = [passages.frame(view, k).plan(one) for one in passages.read(range(len(RECORDS)), view, k)]
            shown = [one for plan in plans for one in plan.showings]
            assert max(max(one.ids.size, one.source.size) for one in shown) <= WINDOW
            unscored = [i for i, plan in enumerate(plans) if not plan.showings]
            assert unscored == ([1, 3] if view is PREFIXED else []), "no room for the shots before a whole prompt"
            n_read = sum(one.size for one in shown)
            left_out = sum(plans[i].passage.ids.size + passages.frame(view, k).n_around for i in unscored)
            assert passages.n_read(view, k) == n_read + left_out


def test_all_models_read_the_same_part_of_a_prompt_and_of_a_completion() -> None:
    passages = built()
    assert passages.n_prompts_cut == 2
    assert passages.n_cut == 3
    for index, (prompt, completion) in enumerate(RECORDS):
        ends = []
        for k in range(2):
            (found,) = passages.read([index], PLAIN, k)
            given = found.char_end[: found.n_given]
            ends.append((int(given[-1]) if given.size else 0, int(found.char_end[-1])))
        assert max(end for end, _ in ends) <= passages.prompt_cuts[index] <= len(prompt)
        assert passages.scored_text(index) == completion[: int(passages.cuts[PLAIN][index, 0]) - len(prompt)]
        assert ends[0][1] <= passages.cuts[PLAIN][index, 0]
    whole = [0, 2]
    assert passages.prompt_cuts[whole].tolist() == [len(RECORDS[i][0]) for i in whole]


def test_the_lowered_completion_stands_behind_the_prompt_as_it_was() -> None:
    passages = build(
        [Script("ASK Knee", 4), Script("Ask PAIN", 4)], TOKENIZERS, FRAMES, views=[LOWERCASED], shots=(), window=WINDOW
    )
    for k in range(2):
        plain, lowered = passages.read([0], PLAIN, k), passages.read([0], LOWERCASED, k)
        assert np.array_equal(plain[0].ids[: plain[0].n_given], lowered[0].ids[: lowered[0].n_given])
        assert not np.array_equal(plain[0].ids, lowered[0].ids)
