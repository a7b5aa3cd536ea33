"""Sequences that a model writes itself."""

from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from kdaudit.distill.generation import continue_all, prompt_of, teacher_sequences, write_all
from kdaudit.targets.plan import Example
from tests import tiny
from tests.distill.training import some_examples

EXAMPLES = some_examples(6)
MODEL = tiny.model("llama", seed=1)


def ids(n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    return np.arange(1, n + 1, dtype=np.int32)


@pytest.mark.parametrize(
    ("example", "n_lead", "n_prompt"),
    [
        (Example(ids(20), 0), 0, 5),  # a quarter of a plain text
        (Example(ids(21), 1), 1, 6),  # and what its tokenizer leads with
        (Example(ids(20), 7), 0, 7),  # a record's own prompt
        (Example(ids(3), 0), 0, 1),  # at least one token to go on from
    ],
)
def test_a_model_goes_on_from_the_prompt_or_the_first_quarter(example: Example, n_lead: int, n_prompt: int) -> None:
    assert prompt_of(example, n_lead).tolist() == example.ids[:n_prompt].tolist()


def test_what_is_written_starts_with_the_prompt_and_is_at_most_as_long_as_the_record() -> None:
    for example, written in zip(EXAMPLES, continue_all(MODEL, EXAMPLES, n_lead=0, end=None, seed=1), strict=True):
        prompt = prompt_of(example, 0)
        assert written.n_given == prompt.size
        assert written.ids[: prompt.size].tolist() == prompt.tolist()
        assert written.ids.size == example.ids.size
        assert written.ids.max() < tiny.VOCABULARY


def test_it_ends_with_the_first_end_of_text() -> None:
    free = continue_all(MODEL, EXAMPLES, n_lead=0, end=None, seed=1)
    end = int(free[0].ids[free[0].n_given + 2])
    for written in continue_all(MODEL, EXAMPLES, n_lead=0, end=end, seed=1):
        assert end not in written.ids[written.n_given : -1].tolist()


def test_the_seed_decides_and_torchs_own_state_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (
        [one.ids.tolist() for one in continue_all(MODEL, EXAMPLES, n_lead=0, end=None, seed=seed)] for seed in (1, 1, 2)
    )
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)


def test_words_come_as_often_as_the_model_says() -> None:
    """Sampled from the model's own distribution: no temperature, no top-k, no left-padding error."""
    prompts = [Example(np.array([7, 9, 0], np.int32), 2), Example(np.array([3, 4, 5, 6, 0], np.int32), 4)]
    counts = np.zeros((2, tiny.VOCABULARY))
    for seed in range(20):
        for k, kind in enumerate(prompts):
            batch = [kind, prompts[1 - k]] * 400  # beside prompts of another length
            for written in continue_all(MODEL, batch, n_lead=0, end=None, seed=seed)[::2]:
                counts[k, written.ids[-1]] += 1
    with torch.no_grad():
        expected = [
            MODEL(torch.from_numpy(one.ids[None, : one.n_given].astype("int64"))).logits[0, -1].softmax(-1).numpy()
            for one in prompts
        ]
    for seen, wanted in zip(counts, expected, strict=True):
        n = seen.sum()
        likely = wanted * n > 10
        assert likely.sum() > 100
        statistic = ((seen - n * wanted)[likely] ** 2 / (n * wanted[likely])).sum()
        assert statistic < likely.sum() + 5 * np.sqrt(2 * likely.sum())  # chi-square, five deviations


def test_batches_keep_the_order_and_every_example() -> None:
    told: list[int] = []
    found = write_all(MODEL, EXAMPLES, n_lead=0, end=None, seed=1, batch_tokens=40, on_done=told.append)
    assert [one.ids[: one.n_given].tolist() for one in found] == [prompt_of(one, 0).tolist() for one in EXAMPLES]
    assert told[-1] == len(EXAMPLES)
    assert told == sorted(told)


def test_the_teachers_sequences_are_written_once(tmp_path: Path) -> None:
    options = {"n_lead": 0, "end": None, "seed": 1, "batch_tokens": 100, "on_done": lambda _: None}
    path, load = tmp_path / "sequences.safetensors", partial(nullcontext, MODEL)
    first = teacher_sequences(load, EXAMPLES, path, **options)  # type: ignore[arg-type]
    again = teacher_sequences(None, EXAMPLES, path, **options)  # type: ignore[arg-type]  # nobody has to write
    assert [(a.ids.tolist(), a.n_given) for a in first] == [(b.ids.tolist(), b.n_given) for b in again]
    path.write_bytes(b"half")
    assert len(teacher_sequences(load, EXAMPLES, path, **options)) == len(EXAMPLES)  # type: ignore[arg-type]
