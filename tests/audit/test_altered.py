"""Encoders and encoder-decoders whose architecture kdaudit changed go through an audit as they were."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet

from kdaudit.mitigate.bottleneck import bottleneck
from kdaudit.mitigate.no_norm import no_norm
from kdaudit.models.altered import save
from kdaudit.models.checkpoint import find
from kdaudit.models.loading import load
from kdaudit.signals.running import Rest, split_head
from kdaudit.targets.masked import Masking, masked_frame
from tests import encoders, families, pairs
from tests.commands import CONTEXT, Given, read_texts


def changed(model: Any, family: str) -> Any:
    bottleneck(model, 4)
    if family != "mobilebert":
        no_norm(model, families.inputs(family))
    return model


def changed_copy(folder: Path, family: str, to: Path) -> Path:
    """A changed copy of a checkpoint."""
    save(changed(load(find(str(folder), option="--student"), device="cpu", dtype="float32"), family), to)
    families.tokenizer(family).save_pretrained(to)
    return to


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_changed_model_is_split_into_body_and_head_as_before(family: str) -> None:
    read = families.inputs(family, 6)
    kinds = []
    for model in (families.untrained(family), changed(families.untrained(family), family)):
        with torch.inference_mode():
            split = split_head(model, read, model(**read).logits, with_rest=family in encoders.FAMILIES)
        assert split is not None
        kinds.append(type(split.head))
    assert kinds[0] == kinds[1]
    assert (kinds[1] is Rest) == (family in encoders.FAMILIES)


def scores(out: Path) -> dict[str, float]:
    rows = parquet.read_table(out / "scores.parquet").to_pylist()
    return {row["id"]: row["score"] for row in rows if (row["model"], row["attack"]) == ("student", "loss")}


def test_a_changed_masked_pair_is_audited_and_scored_as_it_predicts(given: Given, tmp_path: Path) -> None:
    made = [encoders.save(tmp_path / name, name, seed=i) for i, name in enumerate(("bert", "distilbert"), 1)]
    teacher, student = (changed_copy(path, path.name, tmp_path / f"{path.name}-changed") for path in made)
    pair = Given(teacher, student, made[1], given.members, given.nonmembers)
    done = pair.attack(tmp_path / "run", "--attack", "loss", "--attack", "reference", "--reference", made[1])
    assert done.code == 0, done.err
    model, split = load(find(str(student), option="--student"), device="cpu", dtype="float32"), encoders.word_pieces()
    frame, found = masked_frame(split, Masking()), scores(tmp_path / "run")
    asked = list(read_texts(pair.members).items())[:4]
    for (name, _), passage in zip(asked, frame.kind.encode(split, [text for _, text in asked], None), strict=True):
        likelihoods = []
        for one in frame.plan(passage).showings:
            with torch.no_grad():
                logits = model(input_ids=torch.from_numpy(one.ids.astype(np.int64))[None]).logits[0].log_softmax(-1)
            likelihoods += [float(logits[i, target]) for i, target in zip(one.columns, one.targets, strict=True)]
        assert found[name] == pytest.approx(np.mean(likelihoods), abs=1e-4)


def test_a_changed_encoder_decoder_is_audited_and_scored_as_it_predicts(tmp_path: Path) -> None:
    start = pairs.save(tmp_path / "start", "t5", seed=1, context=CONTEXT)
    student = changed_copy(start, "t5", tmp_path / "student")
    asked = pairs.texts(48, seed=5)
    members = pairs.write_jsonl(tmp_path / "members.jsonl", asked[:24], prefix="m")
    nonmembers = pairs.write_jsonl(tmp_path / "nonmembers.jsonl", asked[24:], prefix="n")
    given = Given(start, student, start, members, nonmembers)
    done = given.attack(tmp_path / "run", "--attack", "loss")
    assert done.code == 0, done.err
    model, split = load(find(str(student), option="--student"), device="cpu", dtype="float32"), pairs.tokenizer("t5")
    for i, (prompt, completion) in enumerate(asked[:4]):
        labels = torch.tensor([split(completion, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([split(prompt)["input_ids"]]), labels=labels).loss
        assert scores(tmp_path / "run")[f"m{i}"] == pytest.approx(-float(loss), abs=1e-5)
