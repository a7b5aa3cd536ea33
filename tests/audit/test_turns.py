"""Chats with several answers: every answer is scored, as each model is shown it, and a student learns them all."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kdaudit.audit.lineage import _layout
from kdaudit.config import AuditConfig
from kdaudit.errors import ConfigError, RecordsError
from kdaudit.manifest import Manifest
from kdaudit.records import Record
from kdaudit.targets.frames import check_answers
from tests.audit.test_renderings import STUDENTS, TEACHERS, attack, having, write
from tests.commands import Given, check_refused, results, texts
from tests.distill.students import Recipe, manifest_of

Turns = list[dict[str, Any]]


def talks(folder: Path, *, n: int = 12) -> dict[str, Turns]:
    """Chats of two answers each: members and non-members."""
    found: dict[str, Turns] = {}
    for place, text in enumerate(texts(2 * n, seed=8)):
        words = text.split(" ")
        said = (" ".join(words[:2]), " ".join(words[2:4]), "and then?", " ".join(words[4:]))
        found[f"{'mn'[place >= n]}{place}"] = [
            {"role": ("user", "assistant")[k % 2], "content": one} for k, one in enumerate(said)
        ]
    write(folder, found)
    return found


def scores(folder: Path, attack: str = "loss") -> dict[tuple[str, str], float]:
    rows = pq.read_table(folder / "run" / "scores.parquet").to_pylist()
    return {(row["model"], row["id"]): row["score"] for row in rows if row["attack"] == attack}


def by_hand(checkpoint: Path, parts: Sequence[tuple[str, str]], change: Callable[[str], str] = str) -> float:
    """The mean log-probability of all words under transformers alone; `parts` are what is read only, and words."""
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    whole, is_word = "", np.zeros(0, dtype=bool)
    for before, words in parts:
        whole += before + change(words)
        is_word = np.concatenate([is_word, np.zeros(len(before), bool), np.ones(len(change(words)), bool)])
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    ids = torch.tensor([encoded["input_ids"]])
    with torch.no_grad():
        logprobs = model(ids).logits.log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])[:, 0].numpy()
    is_scored = np.array([bool(is_word[start:end].any()) for start, end in encoded["offset_mapping"]])[1:]
    return float(logprobs[is_scored].mean())


@pytest.fixture(scope="module")
def models(given: Given, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("models")

    def make(teacher: str, student: str) -> tuple[Path, Path]:
        found = []
        for side, checkpoint, template in (("t", given.teacher, teacher), ("s", given.student, student)):
            path = folder / f"{side}{abs(hash(template))}"
            found.append(path if path.exists() else having(checkpoint, path, template))
        return found[0], found[1]

    return make


def shown(turns: Turns, *, is_ended: bool = True) -> list[tuple[str, str]]:
    """What TEACHERS writes: what is read only, and an answer up to the mark that ends it, or its words alone."""
    (_, a), (_, b), (_, c), (_, d) = (turn.values() for turn in turns)
    end, after = ("\n", "") if is_ended else ("", "\n")
    return [(f"[user] {a}\n[assistant] ", f"{b}{end}"), (f"{after}[user] {c}\n[assistant] ", f"{d}{end}")]


@pytest.mark.parametrize("score", ["assistant", "last", "all"])
def test_the_answers_that_are_asked_for_are_scored(
    score: str, models: Callable[[str, str], tuple[Path, Path]], tmp_path: Path
) -> None:
    found, (teacher, student) = talks(tmp_path), models(TEACHERS, TEACHERS)
    done = attack(
        tmp_path, teacher, student, "--attack", "lowercase", *(() if score == "assistant" else ("--score", score))
    )
    assert done.code == 0, done.err
    for own_id in list(found)[:3]:
        parts = shown(found[own_id])
        if score != "assistant":
            before = "".join(read + words for read, words in parts[:-1]) + parts[-1][0]
            parts = [(before, parts[-1][1])] if score == "last" else [("", before + parts[-1][1])]
        for name, model in (("teacher", teacher), ("student", student)):
            plain, lowered = by_hand(model, parts), by_hand(model, parts, str.lower)
            assert scores(tmp_path)[name, own_id] == pytest.approx(plain, abs=1e-4)
            assert scores(tmp_path, "lowercase")[name, own_id] == pytest.approx(plain - lowered, abs=1e-4)
    said = results(tmp_path / "run")
    words = {"assistant": "every answer", "last": "its last answer alone", "all": "what the user says too"}
    assert any(words[score] in one for one in said["validity"]["warnings"])
    assert said["config"]["score"] == score


def test_each_model_reads_its_own_template_and_all_are_scored_on_the_words_of_every_answer(
    models: Callable[[str, str], tuple[Path, Path]], tmp_path: Path
) -> None:
    found, (teacher, student) = talks(tmp_path), models(TEACHERS, STUDENTS)
    done = attack(tmp_path, teacher, student, "--attack", "lowercase")
    assert done.code == 0, done.err
    end = AutoTokenizer.from_pretrained(student).eos_token
    lead = AutoTokenizer.from_pretrained(student).bos_token
    for own_id in list(found)[:3]:
        (_, a), (_, b), (_, c), (_, d) = (turn.values() for turn in found[own_id])
        own = [
            (f"{lead}## user\n{a}{end}## assistant\n<think></think>", b),
            (f"{end}## user\n{c}{end}## assistant\n<think></think>", d),
        ]
        for name, model, parts in (
            ("teacher", teacher, shown(found[own_id], is_ended=False)), ("student", student, own),
        ):  # fmt: skip
            plain, lowered = by_hand(model, parts), by_hand(model, parts, str.lower)
            assert scores(tmp_path)[name, own_id] == pytest.approx(plain, abs=1e-4)
            assert scores(tmp_path, "lowercase")[name, own_id] == pytest.approx(plain - lowered, abs=1e-4)
    check_refused(attack(tmp_path, teacher, student, "--score", "all"), "--score all", "--chat-template teacher")


def test_a_student_learns_every_answer_and_is_audited_on_what_it_learnt(
    models: Callable[[str, str], tuple[Path, Path]], recipe: Recipe, tmp_path: Path
) -> None:
    talks(tmp_path, n=24)
    teacher, _ = models(TEACHERS, TEACHERS)
    given = Recipe(teacher, recipe.start, tmp_path / "members.jsonl")
    for flag in ("--sequence-level", "--on-policy"):
        options = (flag,) if flag == "--sequence-level" else (flag, "0.5", "--hard-weight", "0")
        check_refused(given.distill(tmp_path / "x", *options), flag, "--score last")
    done = given.distill(tmp_path / "student")
    assert done.code == 0, done.err
    said = manifest_of(tmp_path / "student")["training"]
    assert said["score"] == "assistant"
    assert any("every answer" in note for note in said["notes"])
    assert given.attack(tmp_path / "student", tmp_path / "run").code == 0
    assert results(tmp_path / "run")["config"]["score"] == "assistant"
    refused = given.attack(tmp_path / "student", tmp_path / "other", "--score", "last")
    check_refused(refused, "--score last", "--score assistant", "leave it out")


def test_a_student_from_before_there_was_a_choice_learnt_the_last_answer() -> None:
    old = Manifest(Path("kdaudit.json"), {"training": {}, "data": {"text_field": "text", "id_field": "id"}})
    config = AuditConfig(teacher="t", students=("s",))
    assert _layout(old, config)["score"] == "last"
    with pytest.raises(ConfigError, match="--score all: the student was distilled"):
        _layout(old, replace(config, score="all"))


def test_a_decoder_that_writes_one_answer_is_not_asked_for_several() -> None:
    record = Record("a", "[user] Hi [assistant] Hello [user] And? [assistant] Bye", 1, 22, gaps=((27, 51),))
    check_answers("causal", [record])
    check_answers("seq2seq", [Record("a", "Hi Hello", 1, 3)])
    with pytest.raises(RecordsError, match="one answer") as caught:
        check_answers("seq2seq", [record])
    assert "--score last" in str(caught.value.hint)
