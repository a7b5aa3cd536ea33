"""A kind of model is a rule: another one goes through engine, audit and learning without a change in any of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pyarrow import parquet
from torch.nn import functional

from kdaudit.audit import plan as planning
from kdaudit.distill.batches import collate, inputs_of, n_targets
from kdaudit.distill.losses import count_targets, distillation_loss
from kdaudit.distill.student import speaker
from kdaudit.signals.engine import measure
from kdaudit.signals.tokens import TokenSignals
from kdaudit.targets.causal import CAUSAL
from kdaudit.targets.passage import Passage, encode, lead_ids
from kdaudit.targets.plan import Example, Frame, Kind, Showing, padded
from tests import tiny
from tests.commands import Given, read_texts

MASK = 1  # a token that stands in the place of hidden ones
LENGTHS = (23, 2, 9, 1, 0, 17, 5)


def hiding(ids: NDArray[np.int32], hidden: NDArray[np.intp], start: int) -> Showing:
    """Some places of `ids` replaced by the mask, each predicted by its own output; the text begins at `start`."""
    shown = ids.copy()
    shown[hidden] = MASK
    places = hidden.astype(np.int32)
    return Showing(shown, columns=places, targets=ids[hidden], tokens=places - np.int32(start))


def in_two_passes(passage: Passage, frame: Frame) -> tuple[Showing, ...]:
    """Every second token hidden, then the others."""
    ids = np.concatenate([np.array(frame.before, dtype=np.int32), passage.ids])
    start, first = len(frame.before), len(frame.before) + passage.n_given
    groups = [np.arange(first + k, ids.size, 2) for k in range(2)]
    return tuple(hiding(ids, group, start) for group in groups if group.size)


def example(passage: Passage, frame: Frame, window: int) -> Example:
    return Example(np.concatenate([np.array(frame.lead, dtype=np.int32), passage.ids])[:window], len(frame.lead))


def learn(example: Example, epoch: int) -> Showing:
    """Other tokens are hidden in every other epoch."""
    return hiding(example.ids, np.arange(example.n_given + epoch % 2, example.ids.size, 2), 0)


def inputs(showings: Sequence[Showing]) -> Mapping[str, NDArray[np.int64]]:
    """These models look at padding unless they are told what it is."""
    is_read = [np.ones(one.size, dtype=np.int32) for one in showings]
    return {"input_ids": padded([one.ids for one in showings]), "attention_mask": padded(is_read)}


ALTERNATING = Kind("alternating", in_two_passes, example, learn, inputs, is_causal=False)


def passages() -> list[Passage]:
    whole = encode(tiny.tokenizer(), tiny.texts(len(LENGTHS), seed=0, n_words=40))
    return [Passage(p.ids[:n], p.char_end[:n], p.byte_end[:n]) for p, n in zip(whole, LENGTHS, strict=True)]


def alone(model: Any, ids: Sequence[int], n_before: int) -> NDArray[np.float64]:
    """(T, 2): log-probability and highest one at every token, all others of its kind hidden; a text at a time."""
    found = np.zeros((len(ids) - n_before, 2))
    for group in range(2):
        hidden = list(range(n_before + group, len(ids), 2))
        shown = torch.tensor([[MASK if i in hidden else word for i, word in enumerate(ids)]])
        with torch.no_grad():
            scores = model(input_ids=shown, attention_mask=torch.ones_like(shown)).logits[0].double().log_softmax(-1)
        for i in hidden:
            found[i - n_before] = float(scores[i, ids[i]]), float(scores[i].max())
    return found


@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
@pytest.mark.parametrize("frame", [Frame(ALTERNATING, (0,)), Frame(ALTERNATING, (), tuple(range(20, 30)))])
def test_several_passes_of_a_text_are_put_together_in_its_order(frame: Frame, batch_tokens: int) -> None:
    model, counts = tiny.model("bert"), list[int]()
    found = next(measure(model, [passages()], frame, batch_tokens=batch_tokens, on_tokens=counts.append))
    for passage, signals in zip(passages(), found, strict=True):
        expected = alone(model, [*frame.before, *passage.ids.tolist()], len(frame.before))
        assert signals.logprob == pytest.approx(expected[:, 0], abs=1e-4)
        assert signals.logprob_top == pytest.approx(expected[:, 1], abs=1e-4)
        assert signals.byte_end.tolist() == passage.byte_end.tolist()
        assert signals.byte_start == 0
    assert sum(counts) == 2 * sum(LENGTHS) - 1, "a text of one token has one pass"


def test_a_token_that_several_passes_predict_has_the_mean_of_them() -> None:
    groups = ([2, 4], [2, 5])

    def found(name: str, *hidden: list[int]) -> TokenSignals:
        def show(passage: Passage, frame: Frame) -> tuple[Showing, ...]:
            known = [np.array([place for place in group if place < passage.ids.size]) for group in hidden]
            return tuple(hiding(passage.ids, group, 0) for group in known if group.size)

        frame = Frame(replace(ALTERNATING, name=name, show=show))
        return next(measure(tiny.model("bert"), [passages()[:1]], frame, batch_tokens=100))[0]

    both, one, other = found("both", *groups), found("one", groups[0]), found("other", groups[1])
    expected = [(one.logprob[0] + other.logprob[0]) / 2, one.logprob[1], other.logprob[1]]
    assert both.logprob == pytest.approx(np.array(expected), abs=1e-5)
    byte_end = passages()[0].byte_end
    assert (both.byte_end.tolist(), both.byte_start) == (byte_end[[2, 4, 5]].tolist(), byte_end[1])


def test_an_audit_of_another_kind_of_model_changes_nothing_but_the_rule(
    given: Given, checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    encoders = given.having(teacher=checkpoint("bert", seed=1), student=checkpoint("bert", seed=2))
    assert encoders.attack(tmp_path / "causal", "--attack", "loss").code == 4
    frames: list[Frame] = []

    def frame_of(_: str, tokenizer: Any, *__: object, **___: object) -> Frame:
        frames.append(Frame(ALTERNATING, lead_ids(tokenizer)))
        return frames[-1]

    monkeypatch.setattr(planning, "frame_of", frame_of)
    done = encoders.attack(tmp_path / "run", "--attack", "loss", "--attack", "min-k++", "--attack", "lowercase")
    assert done.code == 0, done.err
    table = parquet.read_table(tmp_path / "run" / "scores.parquet").to_pylist()
    scores = {row["id"]: row["score"] for row in table if (row["model"], row["attack"]) == ("student", "loss")}
    model = AutoModelForCausalLM.from_pretrained(encoders.student)
    n_tokens = 0
    for name, text in read_texts(given.members).items():
        ids = tiny.tokenizer()(text, add_special_tokens=False)["input_ids"]
        assert scores[name] == pytest.approx(alone(model, ids, 0)[:, 0].mean(), abs=1e-4)
        n_tokens += 2 * len(ids)
    n_tokens += sum(
        2 * len(tiny.tokenizer()(text, add_special_tokens=False)["input_ids"])
        for text in read_texts(given.nonmembers).values()
    )
    row = next(row for row in done.err.splitlines() if "student" in row and "plain" in row)
    assert f"{n_tokens:,}" in row.split(), "both passes of every text are counted"


def test_learning_reads_the_same_rule() -> None:
    model = tiny.model("bert").eval()
    examples = [Example(one.ids, 0) for one in passages() if one.ids.size > 1]
    for epoch in range(2):
        batch = collate([(i, epoch, one) for i, one in enumerate(examples)], ALTERNATING)
        read = inputs_of(batch, torch.device("cpu"))
        with torch.no_grad():
            said = speaker(model, read)(read).outputs
            found = distillation_loss(
                said, None, batch["targets"], objective="hard", hard_weight=1.0, temperature=1.0,
                n_targets=count_targets(batch["targets"]),
            )  # fmt: skip
            losses = []
            for one in examples:
                shown, hidden = torch.from_numpy(one.ids).long()[None].clone(), range(epoch, one.ids.size, 2)
                shown[0, list(hidden)] = MASK
                logits = model(input_ids=shown, attention_mask=torch.ones_like(shown)).logits[0]
                losses += [functional.cross_entropy(logits[i], torch.tensor(int(one.ids[i]))) for i in hidden]
        assert float(found) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-4)
        assert count_targets(batch["targets"]) == len(losses)


def test_a_causal_plan_predicts_every_token_but_the_given_ones_from_the_output_before_it() -> None:
    ids, ends = np.array([7, 8, 9], dtype=np.int32), np.array([1, 2, 3], dtype=np.int32)
    (bare,) = Frame(CAUSAL).plan(Passage(ids, ends, ends)).showings
    (led,) = Frame(CAUSAL, (0,), (5, 6)).plan(Passage(ids, ends, ends, n_given=1)).showings
    assert (bare.columns.tolist(), bare.targets.tolist(), bare.tokens.tolist()) == ([0, 1], [8, 9], [1, 2])
    assert led.ids.tolist() == [0, 5, 6, 7, 8, 9]
    assert (led.columns.tolist(), led.targets.tolist(), led.tokens.tolist()) == ([3, 4], [8, 9], [1, 2])
    cached = led.after(2)
    assert (cached.ids.tolist(), cached.columns.tolist()) == ([6, 7, 8, 9], [1, 2])
    assert Frame(CAUSAL).plan(Passage(ids[:1], ends[:1], ends[:1])).showings == ()
    assert n_targets(Example(ids, 0), CAUSAL) == n_targets(Example(ids, 1), CAUSAL) == 2
    assert n_targets(Example(ids, 3), CAUSAL) == n_targets(Example(ids[:1], 0), CAUSAL) == 0
