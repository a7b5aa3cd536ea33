"""Sequences to learn from, and the order and split in which they are learnt."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.distill.batches import NOTHING, ExampleSet, PlannedBatches, collate, n_targets
from kdaudit.distill.data import make_examples, plan_steps
from kdaudit.distill.losses import IGNORED, count_targets
from kdaudit.errors import RecordsError
from kdaudit.records import Record
from kdaudit.targets.causal import CAUSAL, causal_frame
from kdaudit.targets.plan import Example, Frame
from tests import tiny

TEXT = "the patient reports pain"


def ids_of(text: str, *, bos: bool = False) -> list[int]:
    return list(tiny.tokenizer(bos=bos)(text, add_special_tokens=False)["input_ids"])


def told(*, bos: bool = False) -> tuple[Any, Frame]:
    """A tokenizer, and how it shows texts."""
    return tiny.tokenizer(bos=bos), causal_frame(tiny.tokenizer(bos=bos))


@pytest.mark.parametrize("bos", [False, True])
def test_a_text_is_closed_by_the_end_of_text_and_led_by_what_its_tokenizer_leads_with(bos: bool) -> None:
    (example,) = make_examples([Record("a", TEXT, 1)], *told(bos=bos), window=64).items
    assert example.ids.tolist() == [*([0] if bos else []), *ids_of(TEXT, bos=bos), 0]
    assert example.n_given == int(bos)
    assert n_targets(example, CAUSAL) == len(ids_of(TEXT)) + (1 if bos else 0)


def test_a_prompt_is_read_but_not_learnt() -> None:
    prompt = "the patient reports"
    (example,) = make_examples([Record("a", f"{prompt} pain in left knee", 1, len(prompt))], *told(), window=64).items
    assert example.ids[: example.n_given].tolist() == ids_of(prompt)
    predicted = collate([(0, 0, example)], CAUSAL)["targets"][0]
    assert (predicted[: example.n_given - 1] == IGNORED).all()
    assert predicted[example.n_given - 1 :].tolist() == [*example.ids[example.n_given :].tolist(), IGNORED]
    assert count_targets(predicted) == n_targets(example, CAUSAL)


def test_longer_texts_are_cut_and_counted_and_texts_without_a_target_are_left_out() -> None:
    records = [Record("a", TEXT, 1), Record("b", "a", 2), Record("c", TEXT + " since Monday", 3, len(TEXT))]
    found = make_examples(records, *told(), window=4)
    assert found.n_cut == 2
    assert found.n_left_out == 1  # the third one's prompt fills the window
    assert [example.ids.size for example in found.items] == [4, len(ids_of("a")) + 1]
    with pytest.raises(RecordsError, match="none of the 1 records"):
        make_examples(records[2:], *told(), window=4)


sizes_and_budget = st.tuples(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 60))


@given(sizes_and_budget, st.integers(1, 5), st.integers(0, 3))
def test_every_epoch_learns_every_example_once_within_the_budget(
    drawn: tuple[list[int], int], n_parts: int, seed: int
) -> None:
    sizes, budget = drawn
    epochs = list(plan_steps(sizes, epochs=2, step_tokens=budget, n_parts=n_parts, rng=np.random.default_rng(seed)))
    whole = list(plan_steps(sizes, epochs=2, step_tokens=budget, n_parts=1, rng=np.random.default_rng(seed)))
    for epoch, unsplit in zip(epochs, whole, strict=True):
        assert sorted(index for step in epoch for part in step for index in part) == list(range(len(sizes)))
        for step, (together,) in zip(epoch, unsplit, strict=True):
            assert len(step) == n_parts
            assert sorted(index for part in step for index in part) == sorted(together)
            assert sum(sizes[i] for i in together) <= budget or len(together) == 1


def test_a_step_with_fewer_examples_than_parts_is_filled_up_with_rows_that_teach_nothing() -> None:
    examples = [Example(np.arange(5, dtype=np.int32), 0)]
    batches = list(PlannedBatches([[[[0], []]], [[[0]]]]))
    assert batches == [[(0, 0)], [(NOTHING, 0)], [(0, 1)]]
    data = ExampleSet(examples)
    assert [count_targets(collate([data[i] for i in batch], CAUSAL)["targets"]) for batch in batches] == [4, 0, 4]
