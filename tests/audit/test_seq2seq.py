"""Encoder-decoders go through a whole audit: every attack, records with prompts, and what cannot be read is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import parquet

from kdaudit.attacks import ATTACKS
from kdaudit.targets.passage import encode
from tests import pairs, tiny
from tests.commands import CONTEXT, Given, check_refused, results, texts

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    folder = tmp_path_factory.mktemp("encoder-decoders")

    def made(family: str, *, seed: int, tokenizer_seed: int = 0) -> Path:
        path = folder / f"{family}-{seed}-{tokenizer_seed}"
        return (
            path
            if path.exists()
            else pairs.save(
                path, family, seed=seed, tokenizer_seed=tokenizer_seed, context=CONTEXT, others=texts(64, seed=9)
            )
        )

    return made


@pytest.fixture(scope="module")
def asked(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Given:
    """A T5 pair with prompts and completions that neither ever saw."""
    folder = tmp_path_factory.mktemp("pairs")
    made = pairs.texts(48, seed=5)
    members = pairs.write_jsonl(folder / "members.jsonl", made[:24], prefix="m")
    nonmembers = pairs.write_jsonl(folder / "nonmembers.jsonl", made[24:], prefix="n")
    return Given(make("t5", seed=1), make("t5", seed=2), make("t5", seed=3), members, nonmembers)


def scores(out: Path, model: str, attack: str) -> dict[str, float | None]:
    rows = parquet.read_table(out / "scores.parquet").to_pylist()
    return {row["id"]: row["score"] for row in rows if (row["model"], row["attack"]) == (model, attack)}


def test_every_attack_runs_on_an_encoder_decoder_over_the_completions(asked: Given, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSeq2SeqLM

    shots = pairs.write_jsonl(tmp_path / "shots.jsonl", [("ask", "knee")], prefix="s")
    done = asked.attack(tmp_path / "run", "--attack", "all", "--reference", asked.start, "--shots", shots)
    assert done.code == 0, done.err
    assert len({name for name in ATTACKS if scores(tmp_path / "run", "student", name)}) == len(ATTACKS)
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


def test_recall_puts_the_shots_before_the_prompt_of_the_encoder(asked: Given, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSeq2SeqLM

    shots = pairs.write_jsonl(tmp_path / "shots.jsonl", [("ask", "knee")], prefix="s")
    done = asked.attack(tmp_path / "run", "--attack", "recall", "--shots", shots)
    assert done.code == 0, done.err
    model, split = AutoModelForSeq2SeqLM.from_pretrained(asked.student), pairs.tokenizer("t5")
    found = scores(tmp_path / "run", "student", "recall")
    record = json.loads(asked.members.read_text(encoding="utf-8").splitlines()[0])
    labels, prompt, shot = (
        split(text, add_special_tokens=False)["input_ids"]
        for text in (record["completion"], record["prompt"], "askknee")
    )

    def own(read: list[int]) -> float:
        with torch.no_grad():
            return -float(model(input_ids=torch.tensor([[*read, 1]]), labels=torch.tensor([labels])).loss)

    assert found[record["id"]] == pytest.approx(own([*shot, *prompt]) / own(prompt), abs=1e-5)


def test_a_student_of_another_family_and_tokenizer_is_compared_by_bytes(
    asked: Given, make: Make, tmp_path: Path
) -> None:
    other = asked.having(student=make("bart", seed=4, tokenizer_seed=7))
    done = other.attack(tmp_path / "run", "--attack", "loss", "--attack", "zlib", "--student-reference", asked.start)
    assert done.code == 0, done.err
    for model in ("teacher", "student"):
        assert len(scores(tmp_path / "run", model, "loss")) == 48


def test_prompts_and_completions_that_are_too_long_are_cut_and_counted(asked: Given, tmp_path: Path) -> None:
    words = " ".join(["knee"] * 160)
    long = [(f"{words} {i}", "no fever") for i in range(3)] + [(f"in {i}", words) for i in range(2)]
    members = pairs.write_jsonl(tmp_path / "members.jsonl", [*pairs.texts(20, seed=8), *long], prefix="m")
    shots = pairs.write_jsonl(tmp_path / "shots.jsonl", [("ask", "knee")], prefix="s")
    attacks = ("--attack", "loss", "--attack", "recall", "--shots", shots)
    done = asked.having(members=members).attack(tmp_path / "run", *attacks)
    assert done.code == 0, done.err
    said = " ".join(done.err.split())
    assert "3 of" in said
    assert "prompts are longer than the 128 tokens that the encoders read and were cut" in said
    assert "2 of" in said
    found = scores(tmp_path / "run", "student", "loss")
    assert all(found[f"m{i}"] is not None for i in range(25)), "none is left unscored"
    after_shots = scores(tmp_path / "run", "student", "recall")
    assert [i for i in range(25) if after_shots[f"m{i}"] is None] == [20, 21, 22], "no room for shots and prompt"


def test_texts_without_prompts_are_refused_by_an_encoder_decoder_without_sentinels(
    asked: Given, given: Given, make: Make, tmp_path: Path
) -> None:
    models = {"teacher": make("bart", seed=1), "student": make("bart", seed=2)}
    done = given.having(**models).attack(tmp_path / "run", "--attack", "loss")
    check_refused(done, "bart", "prompt and completion")


def test_texts_without_prompts_are_scored_by_t5_in_gaps(asked: Given, given: Given, tmp_path: Path) -> None:
    models = {"teacher": asked.teacher, "student": asked.student}
    done = given.having(**models).attack(tmp_path / "run", "--attack", "loss", "--attack", "min-k++")
    assert done.code == 0, done.err
    assert None not in scores(tmp_path / "run", "student", "loss").values()


def test_an_empty_completion_is_refused_with_its_line(asked: Given, tmp_path: Path) -> None:
    members = pairs.write_jsonl(tmp_path / "members.jsonl", [("in", "knee"), ("in", "")], prefix="m")
    check_refused(asked.having(members=members).attack(tmp_path / "run"), "line 2", "an empty text")


def test_a_decoder_without_a_first_token_is_refused(asked: Given, make: Make, tmp_path: Path) -> None:
    folder = pairs.save(tmp_path / "without", "t5", seed=9)
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text(encoding="utf-8"))
        settings.pop("decoder_start_token_id", None)
        (folder / name).write_text(json.dumps(settings), encoding="utf-8")
    check_refused(asked.having(student=folder).attack(tmp_path / "run"), "decoder_start_token_id")


def test_a_causal_student_of_an_encoder_decoder_is_refused(asked: Given, given: Given, tmp_path: Path) -> None:
    check_refused(asked.having(student=given.student).attack(tmp_path / "run"), "encoder-decoder", "causal")


def test_recall_leaves_a_record_unscored_whose_prompt_has_no_room_after_the_shots(given: Given, tmp_path: Path) -> None:
    (whole,) = encode(tiny.tokenizer(), ["ab" * 100])
    words = "ab" * 100
    words = words[: int(whole.char_end[CONTEXT - 20])]
    made = [*pairs.texts(46, seed=8), (f"{words} 1", "no fever"), (f"{words} 2", "no fever")]
    members = pairs.write_jsonl(tmp_path / "members.jsonl", made[::2], prefix="m")
    nonmembers = pairs.write_jsonl(tmp_path / "nonmembers.jsonl", made[1::2], prefix="n")
    asked = given.having(members=members, nonmembers=nonmembers)
    shots = pairs.write_jsonl(tmp_path / "shots.jsonl", [("ask " * 10, "knee")], prefix="s")
    done = asked.attack(tmp_path / "run", "--attack", "recall", "--shots", shots)
    assert done.code == 0, done.err
    found = scores(tmp_path / "run", "student", "recall")
    assert [name for name, score in found.items() if score is None] == ["m23", "n23"]


def test_the_results_name_the_kind_and_the_plan_counts_what_both_sides_read(asked: Given, tmp_path: Path) -> None:
    done = asked.attack(tmp_path / "run", "--attack", "loss")
    assert done.code == 0, done.err
    assert {model["kind"] for model in results(tmp_path / "run")["models"].values()} == {"seq2seq"}
    split, n_tokens = pairs.tokenizer("t5"), 0
    for path in (asked.members, asked.nonmembers):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            n_tokens += len(split(record["prompt"])["input_ids"])
            n_tokens += len(
                split(record["completion"], add_special_tokens=False)["input_ids"]
            )  # the start for the last
    row = next(row for row in done.err.splitlines() if "student" in row and "plain" in row)
    assert f"{n_tokens:,}" in row.split()
