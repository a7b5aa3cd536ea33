"""A surgery looks at training texts as the start reads them in training, and its result is kept."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kdaudit.mitigate import METHODS, starts
from kdaudit.mitigate.starts import changed_start, probe_inputs
from kdaudit.models.checkpoint import find
from kdaudit.models.loading import loaded
from kdaudit.targets.causal import CAUSAL
from kdaudit.targets.masked import Masking, masked_kind
from kdaudit.targets.plan import Example, Frame, Kind, Showing
from kdaudit.targets.seq2seq import PAIRS
from tests import encoders, pairs


def row(*ids: int) -> NDArray[np.int32]:
    return np.array(ids, dtype=np.int32)


def prepared(kind: Kind, examples: Sequence[Example], **models: Any) -> Any:
    """What a surgery reads of a prepared run."""
    items = SimpleNamespace(items=tuple(examples))
    return SimpleNamespace(examples=items, models=SimpleNamespace(frame=Frame(kind), **models))


def hidden_first(example: Example, epoch: int) -> Showing:
    """As a masked model is shown an example: its first token hidden by another one in each epoch."""
    ids = example.ids.copy()
    ids[0] = encoders.MASK + epoch
    return Showing(ids, row(0), example.ids[:1], row(0))


def test_a_causal_model_reads_beginnings_of_one_length_without_padding() -> None:
    examples = [Example(row(*range(i, i + n)), 1) for i, n in ((10, 3), (20, 5), (30, 4), (40, 9))]
    inputs = probe_inputs(prepared(CAUSAL, examples))
    assert list(inputs) == ["input_ids"]
    assert inputs["input_ids"].tolist() == [[20, 21, 22, 23], [30, 31, 32, 33], [40, 41, 42, 43]]


def test_a_masked_model_reads_whole_texts_as_in_the_first_epoch() -> None:
    kind = replace(masked_kind(Masking()), learn=hidden_first)
    inputs = probe_inputs(prepared(kind, [Example(row(7, 8, 9), 0), Example(row(5, 6), 0)]))
    assert inputs["input_ids"].tolist() == [[4, 8, 9], [4, 6, 0]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_both_sides_of_an_encoder_decoder_are_read() -> None:
    examples = [Example(row(1, 7, 8), 1, source=row(4, 5)), Example(row(1, 6), 1, source=row(9))]
    inputs = probe_inputs(prepared(PAIRS, examples))
    assert inputs["input_ids"].tolist() == [[4, 5], [9, 0]]
    assert inputs["decoder_input_ids"].tolist() == [[1, 7], [1, 0]]
    assert inputs["decoder_attention_mask"].tolist() == [[1, 1], [1, 0]]


def test_no_more_texts_are_read_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "PROBE_TEXTS", 3)
    assert probe_inputs(prepared(CAUSAL, [Example(row(1, 2), 1)] * 9))["input_ids"].shape == (3, 2)


@pytest.mark.parametrize("family", ["bert", "t5"])
@pytest.mark.parametrize("name", ["bottleneck", "no-norm"])
def test_a_changed_start_is_made_once_and_loads(family: str, name: str, tmp_path: Path) -> None:
    if family == "t5":
        start, split = pairs.save(tmp_path / "start", "t5", seed=1), pairs.tokenizer("t5")
        ids = [split(text, add_special_tokens=False)["input_ids"] for text, _ in pairs.texts(8, seed=1)]
        kind, examples = PAIRS, [Example(row(0, *one), 1, source=row(*one, 1)) for one in ids]
    else:
        start, split = encoders.save(tmp_path / "start", "bert", seed=1), encoders.word_pieces()
        ids = [split(text)["input_ids"] for text, _ in pairs.texts(8, seed=1)]
        kind, examples = replace(masked_kind(Masking()), learn=hidden_first), [Example(row(*one), 0) for one in ids]
    run = prepared(kind, examples, start=find(str(start), option="--student"), tokenizer=split)
    method = METHODS[name]
    strength = None if method.strength is None else method.strength.default
    made = changed_start(run, method, strength, tmp_path / "arm")
    written = (made.folder / "config.json").stat().st_mtime_ns
    assert changed_start(run, method, strength, tmp_path / "arm") == made
    assert (made.folder / "config.json").stat().st_mtime_ns == written
    record = json.loads((made.folder / "config.json").read_text())["kdaudit_surgery"]
    assert len(record["parts"]) == made.operation.n_replaced > 0
    with loaded(find(str(made.folder), option="--student"), device="cpu", dtype="float32") as model:
        assert type(model).__name__ == {"bert": "BertForMaskedLM", "t5": "T5ForConditionalGeneration"}[family]
    shorter = prepared(kind, examples[:4], start=run.models.start, tokenizer=split)
    assert (changed_start(shorter, method, strength, tmp_path / "arm").folder == made.folder) is False
