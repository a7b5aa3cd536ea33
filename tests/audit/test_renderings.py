"""Chats are shown to every model as its own template writes them, and scored over the same words."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kdaudit.audit.renderings import _said
from kdaudit.models.repeatable import CHAT_DATE, pinned_clock, read_date
from kdaudit.records import Chat
from tests.commands import Done, Given, check_refused, kdaudit, results, texts
from tests.templates import CHATML, GEMMA, MISTRAL, THINKING, renderer

TEACHERS = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
STUDENTS = (
    "{{ bos_token }}{% for m in messages %}{{ '## ' + m.role + '\n' }}"
    "{% if m.role == 'assistant' %}<think></think>{% endif %}{{ m.content | trim }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '## assistant\n' }}{% endif %}"
)
REFUSING = "{% if messages[0].role == 'user' %}{{ raise_exception('no users') }}{% endif %}" + TEACHERS
SHOUTING = TEACHERS.replace("m.content", "m.content | upper")


def having(checkpoint: Path, folder: Path, template: str | None) -> Path:
    made = Path(shutil.copytree(checkpoint, folder))
    path = made / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings.pop("chat_template", None)
    if template is not None:
        settings["chat_template"] = template
    path.write_text(json.dumps(settings), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def models(given: Given, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("models")

    def make(teacher: str | None, student: str | None) -> tuple[Path, Path]:
        found = []
        for side, checkpoint, template in (("t", given.teacher, teacher), ("s", given.student, student)):
            path = folder / f"{side}{abs(hash(template))}"
            found.append(path if path.exists() else having(checkpoint, path, template))
        return found[0], found[1]

    return make


def write(folder: Path, found: dict[str, list[dict[str, Any]]]) -> None:
    """Files of members and of non-members; the ids of members begin with m."""
    for name, letter in (("members", "m"), ("nonmembers", "n")):
        rows = [{"id": own, "messages": turns} for own, turns in found.items() if own[0] == letter]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def chats(folder: Path, *, n: int = 12) -> dict[str, list[dict[str, Any]]]:
    """Members and non-members; some answers have white space at their ends."""
    made = texts(2 * n, seed=7)
    found: dict[str, list[dict[str, Any]]] = {}
    for place, text in enumerate(made):
        asked, said = text.split(" ", 2)[:2], f"{text.split(' ', 2)[2]}{' ' if place % 3 == 0 else ''}"
        turns = [{"role": "user", "content": " ".join(asked)}, {"role": "assistant", "content": said}]
        found[f"{'mn'[place >= n]}{place}"] = turns
    write(folder, found)
    return found


def attack(folder: Path, teacher: Path, student: Path, *options: object) -> Done:
    return kdaudit(
        "attack", "--teacher", teacher, "--student", student, "--members", folder / "members.jsonl",
        "--nonmembers", folder / "nonmembers.jsonl", "--out", folder / "run", "--attack", "loss", "--quiet",
        "--overwrite", *options,
    )  # fmt: skip


def losses(folder: Path) -> dict[tuple[str, str], float]:
    rows = pq.read_table(folder / "run" / "scores.parquet").to_pylist()
    return {(row["model"], row["id"]): row["score"] for row in rows}


def by_hand(checkpoint: Path, turns: list[dict[str, Any]], *, words: str | None, template: str | None = None) -> float:
    """The mean log-probability of the answer under transformers alone; of `words`, else of all behind the prompt."""
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.chat_template = template or tokenizer.chat_template
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    with pinned_clock(read_date(CHAT_DATE)):
        whole = str(tokenizer.apply_chat_template(turns, tokenize=False))
        before = str(tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True))
    if words is not None:
        start = whole.rindex(words)
        whole, before = whole[: start + len(words)], whole[:start]
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    ids = torch.tensor([encoded["input_ids"]])
    with torch.no_grad():
        logprobs = model(ids).logits.log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])[:, 0].numpy()
    is_scored = np.array([end > len(before) for _, end in encoded["offset_mapping"]])[1:]
    return float(logprobs[is_scored].mean())


def test_each_model_reads_its_own_template_and_is_scored_on_the_same_words(
    models: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    found, (teacher, student) = chats(tmp_path), models(TEACHERS, STUDENTS)
    done = attack(tmp_path, teacher, student)
    assert done.code == 0, done.err
    scores = losses(tmp_path)
    for own_id in list(found)[:4]:
        turns = found[own_id]
        words = str(turns[-1]["content"]).strip()
        assert scores["teacher", own_id] == pytest.approx(by_hand(teacher, turns, words=words), abs=1e-4)
        assert scores["student", own_id] == pytest.approx(by_hand(student, turns, words=words), abs=1e-4)
    said = results(tmp_path / "run")
    assert any("to student as its own template writes them; the words" in one for one in said["validity"]["warnings"])
    assert said["config"]["chat_template"] == "own"


@pytest.mark.parametrize("template", [CHATML, THINKING, GEMMA, MISTRAL])
@pytest.mark.parametrize("answer", ["Fine.", " Fine, thanks.\n", "t", "<think>", "Fine\n\nand well"])
def test_the_words_of_an_answer_are_found_whatever_a_family_of_models_puts_around_them(
    template: str, answer: str
) -> None:
    turns = [{"role": "user", "content": "How are you? Fine?"}, {"role": "assistant", "content": answer}]
    render = renderer(template)
    ((before, words),) = _said(render, Chat(turns), "student")
    assert words.strip() == answer.strip()
    assert render(Chat(turns))[1].startswith(before + words)
    assert before.startswith(render(Chat(turns))[0].rstrip())


def test_one_template_for_all_is_chosen_by_an_option(models: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    found, (teacher, student) = chats(tmp_path), models(TEACHERS, STUDENTS)
    (tmp_path / "own.jinja").write_text(TEACHERS.replace("[", "{{ '{' }}"), encoding="utf-8")
    own_id, turns = next(iter(found.items()))
    for choice, template in (("teacher", TEACHERS), ("student", STUDENTS), (tmp_path / "own.jinja", None)):
        done = attack(tmp_path, teacher, student, "--chat-template", choice)
        assert done.code == 0, done.err
        written = template or (tmp_path / "own.jinja").read_text(encoding="utf-8")
        expected = by_hand(student, turns, words=None, template=written)
        assert losses(tmp_path)["student", own_id] == pytest.approx(expected, abs=1e-4)
    assert results(tmp_path / "run")["config"]["chat_template"] == "file"
    check_refused(attack(tmp_path, teacher, student, "--chat-template", tmp_path / "none"), "--chat-template", "none")


def test_equal_templates_are_scored_with_what_they_put_behind_an_answer(
    models: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    found, (teacher, student) = chats(tmp_path), models(TEACHERS, TEACHERS)
    assert attack(tmp_path, teacher, student).code == 0
    own_id, turns = next(iter(found.items()))
    assert losses(tmp_path)["student", own_id] == pytest.approx(by_hand(student, turns, words=None), abs=1e-4)
    assert not any("own template" in one for one in results(tmp_path / "run")["validity"]["warnings"])


@pytest.mark.parametrize(("templates", "lacking"), [((TEACHERS, None), "student"), ((None, TEACHERS), "teacher")])
def test_a_model_without_a_template_is_shown_anothers_and_that_is_said(
    templates: tuple[str | None, str | None], lacking: str, models: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    found, (teacher, student) = chats(tmp_path), models(*templates)
    done = attack(tmp_path, teacher, student)
    assert done.code == 0, done.err
    own_id, turns = next(iter(found.items()))
    expected = by_hand(student, turns, words=None, template=TEACHERS)
    assert losses(tmp_path)["student", own_id] == pytest.approx(expected, abs=1e-4)
    said = results(tmp_path / "run")["validity"]["warnings"]
    assert f"{lacking} has no chat template: it is shown the chats as another model's writes them" in said


@pytest.mark.parametrize(
    ("template", "words"),
    [(REFUSING, "the chat template of student refuses the messages"),
     (SHOUTING, "the chat template of student does not show the answer as it stands")],
)  # fmt: skip
def test_chats_that_a_template_cannot_show_are_refused_with_the_way_out(
    template: str, words: str, models: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    chats(tmp_path)
    done = attack(tmp_path, *models(TEACHERS, template))
    check_refused(done, "cannot be shown to each model by its own template", words, "--chat-template teacher")


def test_shots_and_texts_beside_chats_are_shown_so_too(
    given: Given, models: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    chats(tmp_path)
    for name in ("members", "nonmembers"):
        with (tmp_path / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"text": f"A plain text of the {name}."}) + "\n")
    done = attack(tmp_path, *models(TEACHERS, STUDENTS), "--attack", "recall", "--attack", "lowercase", "--n-shots", 1,
                  "--student-reference", given.start, "--attack", "wbc")  # fmt: skip
    assert done.code == 0, done.err
    attacks = results(tmp_path / "run")["attacks"]
    for name in ("loss", "recall", "lowercase", "wbc"):
        assert attacks[name]["student"]["status"] == "ok", attacks[name]["student"]
    shared = attack(tmp_path, *models(TEACHERS, STUDENTS), "--reference", given.start)
    check_refused(shared, "is a reference of models with different chat templates", "--chat-template teacher")
