"""An attack that shows its target several variants of a record takes one file and one line in the table."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from pyarrow import parquet

from kdaudit import attacks
from kdaudit.signals import store
from kdaudit.signals.tokens import TokenSignals
from tests.commands import Given, counted_loads, results
from tests.commands import kdaudit as run

FILE = '''
"""Neighbours: a member is likelier than the same text with two words swapped.

Source: Mattern et al. 2023, arXiv:2305.18462, with swaps of words in the place of a masked model's words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kdaudit.attacks.base import Attack, Sample
from kdaudit.attacks.loss import mean
from kdaudit.views.view import PLAIN, View


def swap_words(text: str, rng: np.random.Generator) -> Sequence[str]:
    """Three texts, each with two words swapped."""
    found = []
    for _ in range(3):
        words = text.split(" ")
        first, second = rng.integers(0, len(words), 2)
        words[first], words[second] = words[second], words[first]
        found.append(" ".join(words))
    return found


SWAPPED = View("swapped", swap_words, n_variants=3)


def score(sample: Sample) -> float:
    """Mean log-likelihood minus that of the neighbours in nats; NaN where one of them has no scored token."""
    around = [mean(one.logprob) for one in sample.variants[SWAPPED]]
    return mean(sample.target[PLAIN].logprob) - float(np.mean(around))


ATTACK = Attack(
    "neighbours", score, summary="mean log-likelihood minus that of three texts with two words swapped",
    source="arXiv:2305.18462", views=(PLAIN, SWAPPED),
)
'''


@pytest.fixture
def neighbours(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The file of the attack, and its line in the table."""
    module = ModuleType("neighbours")
    monkeypatch.setitem(sys.modules, "neighbours", module)
    exec(FILE, vars(module))
    monkeypatch.setitem(attacks.ATTACKS, module.ATTACK.name, module.ATTACK)  # the line
    return module


def shards(out: Path) -> set[Path]:
    return set((out / "signals").rglob("*.safetensors"))


def check_scores(module: ModuleType, given: Given, out: Path) -> None:
    """Every score in scores.parquet, from the model itself, a text at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from kdaudit.draws import generator
    from kdaudit.views.build import _digest
    from tests.commands import read_texts

    model, tokenizer = AutoModelForCausalLM.from_pretrained(given.student), AutoTokenizer.from_pretrained(given.student)

    def loss(text: str) -> float:
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            return float(model(input_ids=ids, labels=ids).loss)

    table = parquet.read_table(out / "scores.parquet").to_pylist()
    found = {row["id"]: row["score"] for row in table if (row["model"], row["attack"]) == ("student", "neighbours")}
    texts = read_texts(given.members)
    for name, text in list(texts.items())[:5]:
        made = module.swap_words(text, generator(0, f"view swapped {_digest(text)}"))
        assert len(set(made)) > 1
        assert found[name] == pytest.approx(np.mean([loss(one) for one in made]) - loss(text), abs=1e-4)
    assert len(found) == 2 * len(texts)


def test_it_runs_from_the_table_to_the_scores_and_is_continued(
    neighbours: ModuleType, given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "4 passes" in next(row for row in run("attack", "--list-attacks").out.splitlines() if "neighbours" in row)
    options = ("--attack", "loss", "--attack", "neighbours")
    done = given.attack(tmp_path / "run", *options)
    assert done.code == 0, done.err
    plan = [row.split() for row in done.err.splitlines() if row.split()[:1] in (["teacher"], ["student"])]
    tokens = {(row[0], row[-5]): int(row[-4].replace(",", "")) for row in plan}
    assert set(tokens) == {(model, view) for model in ("teacher", "student") for view in ("plain", "swapped")}
    assert tokens["student", "swapped"] == pytest.approx(3 * tokens["student", "plain"], rel=0.1)
    assert results(tmp_path / "run")["attacks"]["neighbours"]["student"]["status"] == "ok"
    check_scores(neighbours, given, tmp_path / "run")

    kept = shards(tmp_path / "run")
    scores = (tmp_path / "run" / "scores.parquet").read_bytes()
    for path in list(kept)[:1]:
        path.unlink()
    with counted_loads() as loads:
        assert given.attack(tmp_path / "run", *options).code == 0
    assert len(loads) == 1, "what is on disk is not measured again"
    assert (shards(tmp_path / "run"), (tmp_path / "run" / "scores.parquet").read_bytes()) == (kept, scores)


def test_another_version_of_its_view_measures_that_view_again_and_nothing_else(
    neighbours: ModuleType, given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    original = store.write

    def write(path: Path, signals: Sequence[TokenSignals]) -> None:
        written.append(len(signals))
        original(path, signals)

    monkeypatch.setattr(store, "write", write)
    assert given.attack(tmp_path, "--attack", "neighbours").code == 0
    assert sorted(written) == [48, 48, 144, 144], "plain and swapped, of 48 records, on two models"
    newer = replace(neighbours.SWAPPED, version=2)
    vars(neighbours)["SWAPPED"] = newer
    attack = replace(neighbours.ATTACK, views=(neighbours.PLAIN, newer))
    monkeypatch.setitem(attacks.ATTACKS, "neighbours", attack)
    written.clear()
    assert given.attack(tmp_path, "--attack", "neighbours").code == 0
    assert written == [144, 144]
