"""Sequences to learn from, and the order and split in which they are learnt."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.distill.batches import NOTHING, ExampleSet, PlannedBatches, collate
from kdaudit.distill.examples import Example, make_examples, plan_steps
from kdaudit.distill.losses import IGNORED, count_targets
from kdaudit.errors import RecordsError
from kdaudit.records import Record
from tests import tiny

TEXT = "the patient reports pain"


def ids_of(text: str, *, bos: bool = False) -> list[int]:
    return list(tiny.tokenizer(bos=bos)(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("bos", [False, True])
def test_a_text_is_closed_by_the_end_of_text_and_led_by_what_its_tokenizer_leads_with(bos: bool) -> None:
    (example,) = make_examples([Record("a", TEXT, 1)], tiny.tokenizer(bos=bos), window=64).items
    assert example.ids.tolist() == [*([0] if bos else []), *ids_of(TEXT, bos=bos), 0]
    assert example.n_given == int(bos)
    assert example.n_targets == len(ids_of(TEXT)) + (1 if bos else 0)


def test_a_prompt_is_read_but_not_learnt() -> None:
    prompt = "the patient reports"
    (example,) = make_examples(
        [Record("a", f"{prompt} pain in left knee", 1, len(prompt))], tiny.tokenizer(), window=64
    ).items
    assert example.ids[: example.n_given].tolist() == ids_of(prompt)
    labels = collate([(0, example)])["labels"][0]
    assert (labels[: example.n_given] == IGNORED).all()
    assert labels[example.n_given :].tolist() == example.ids[example.n_given :].tolist()
    assert count_targets(labels[None]) == example.n_targets


def test_longer_texts_are_cut_and_counted_and_texts_without_a_target_are_left_out() -> None:
    records = [Record("a", TEXT, 1), Record("b", "a", 2), Record("c", TEXT + " since Monday", 3, len(TEXT))]
    found = make_examples(records, tiny.tokenizer(), window=4)
    assert found.n_cut == 2
    assert found.n_left_out == 1  # the third one's prompt fills the window
    assert [example.ids.size for example in found.items] == [4, len(ids_of("a")) + 1]
    with pytest.raises(RecordsError, match="none of the 1 records"):
        make_examples(records[2:], tiny.tokenizer(), window=4)


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
    batches = list(PlannedBatches([[0], []]))
    assert batches == [[0], [NOTHING]]
    data = ExampleSet(examples)
    assert [count_targets(collate([data[i] for i in batch])["labels"]) for batch in batches] == [4, 0]
