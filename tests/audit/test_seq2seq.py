"""Encoder-decoders go through a whole audit: every attack, records with prompts, and what cannot be read is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from tests import pairs, tiny
from tests.commands import CONTEXT, Given, check_refused, results

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    folder = tmp_path_factory.mktemp("encoder-decoders")

    def made(family: str, *, seed: int, tokenizer_seed: int = 0) -> Path:
        path = folder / f"{family}-{seed}-{tokenizer_seed}"
        return path if path.exists() else pairs.save(path, family, seed=seed, tokenizer_seed=tokenizer_seed)

    return made


@pytest.fixture(scope="module")
def asked(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Given:
    """A T5 pair with prompts and completions that neither ever saw."""
    folder = tmp_path_factory.mktemp("pairs")
    made = pairs.texts(48, seed=5)
    members = pairs.write_jsonl(folder / "members.jsonl", made[:24], prefix="m")
    nonmembers = pairs.write_jsonl(folder / "nonmembers.jsonl", made[24:], prefix="n")
    return Given(make("t5", seed=1), make("t5", seed=2), make("t5", seed=3), members, nonmembers)


def scores(out: Path, model: str, attack: str) -> dict[str, float]:
    rows = parquet.read_table(out / "scores.parquet").to_pylist()
    return {row["id"]: row["score"] for row in rows if (row["model"], row["attack"]) == (model, attack)}


def test_every_attack_runs_on_an_encoder_decoder_over_the_completions(asked: Given, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSeq2SeqLM

    done = asked.attack(tmp_path / "run", "--attack", "all", "--reference", asked.start, "--n-shots", "1")
    assert done.code == 0, done.err
    found = results(tmp_path / "run")
    assert {attack["status"] for attack in found["attacks"]} == {"ran"}
    model, split = AutoModelForSeq2SeqLM.from_pretrained(asked.student), pairs.tokenizer("t5")
    loss = scores(tmp_path / "run", "student", "loss")
    lower = scores(tmp_path / "run", "student", "lowercase")
    for line in asked.members.read_text(encoding="utf-8").splitlines()[:5]:
        record = json.loads(line)

        def own(prompt: str, completion: str) -> float:
            labels = torch.tensor([split(completion, add_special_tokens=False)["input_ids"]])
            with torch.no_grad():
                return -float(model(input_ids=torch.tensor([split(prompt)["input_ids"]]), labels=labels).loss)

        prompt, completion = record["prompt"], record["completion"]
        assert loss[record["id"]] == pytest.approx(own(prompt, completion), abs=1e-5)
        expected = own(prompt, completion) - own(prompt, completion.lower())
        assert lower[record["id"]] == pytest.approx(expected, abs=1e-4)
