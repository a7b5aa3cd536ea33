"""Whole audits of masked models."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from pyarrow import parquet

from kdaudit.audit.liveness import median_bound
from tests import encoders, tiny
from tests.commands import Given, check_refused, kdaudit, read_texts, results


@pytest.fixture(scope="module")
def pair(given: Given, tmp_path_factory: pytest.TempPathFactory) -> Given:
    """A BERT and a DistilBERT of one tokenizer, on the records of every audit."""
    folder = tmp_path_factory.mktemp("encoders")
    teacher = encoders.save(folder / "bert", "bert", seed=1)
    student = encoders.save(folder / "distilbert", "distilbert", seed=2)
    start = encoders.save(folder / "start", "distilbert", seed=3)
    return Given(teacher, student, start, given.members, given.nonmembers)


def scores(out: Path, model: str, attack: str) -> dict[str, float]:
    rows = parquet.read_table(out / "scores.parquet").to_pylist()
    return {row["id"]: row["score"] for row in rows if (row["model"], row["attack"]) == (model, attack)}


def test_all_ten_attacks_run_as_far_as_they_are_defined(pair: Given, tmp_path: Path) -> None:
    done = pair.attack(tmp_path / "run", "--attack", "all", "--reference", pair.start, "--mask-groups", 3)
    assert done.code == 0, done.err
    found = results(tmp_path / "run")
    status = {name: cells["student"]["status"] for name, cells in found["attacks"].items()}
    assert [name for name, said in status.items() if said != "ok"] == ["lowercase"]
    assert "same tokens of a text in lower case" in found["attacks"]["lowercase"]["student"]["reason"]
    assert (found["models"]["teacher"]["kind"], found["config"]["mask_groups"]) == ("masked", 3)
    assert "mask plan partition: of each text its words are hidden in 3 groups" in done.err
    assert found["data"]["masking"].startswith("partition: of each text its words are hidden in 3 groups")
    n_texts = found["data"]["members"] + found["data"]["nonmembers"]
    assert found["data"]["passes"] == {"teacher": 2 * 3 * n_texts, "student": 2 * 3 * n_texts}
    for shown in (done.out, (tmp_path / "run" / "summary.md").read_text(encoding="utf-8")):
        said = " ".join(shown.split())
        assert "Mask plan partition: of each text its words are hidden in 3 groups" in said
        assert f"teacher {2 * 3 * n_texts}, student {2 * 3 * n_texts}" in said
        assert "pseudo-perplexity" in said
        assert "same tokens of a text in lower case" in said
    options = ("--attack", "all", "--student", pair.student, "--members", pair.members, "--nonmembers", pair.nonmembers)
    lent = (*options, "--teacher-run", tmp_path / "run", "--reference", pair.start, "--out", tmp_path / "lent")
    done = kdaudit("attack", *lent, "--mask-groups", 3)
    assert done.code == 0, done.err
    assert results(tmp_path / "lent")["attacks"] == results(tmp_path / "run")["attacks"]
    again = kdaudit("attack", *lent, "--mask-groups", 4, "--overwrite")
    check_refused(again, "mask plan: partition")
    again = pair.attack(tmp_path / "run", "--attack", "all", "--reference", pair.start, "--mask-groups", 4)
    check_refused(again, "mask groups was 3 and is now 4")


def test_the_plan_counts_passes_and_the_tokens_of_the_largest_batch(pair: Given, tmp_path: Path) -> None:
    split, n_texts = encoders.word_pieces(), 48
    lengths = [
        len(split(text)["input_ids"]) for path in (pair.members, pair.nonmembers) for text in read_texts(path).values()
    ]
    for batch in (8, 10**6):
        done = pair.attack(tmp_path / str(batch), "--attack", "loss", "--mask-groups", 2, "--batch-tokens", batch)
        assert done.code == 0, done.err
        assert f"2 views of them, {2 * 2 * n_texts} passes of a text in all" in " ".join(done.err.split())
        row = next(row.split() for row in done.err.splitlines() if row.strip().startswith("teacher"))
        assert row[row.index("plain") + 1 :][:2] == [f"{2 * n_texts}", f"{2 * sum(lengths):,}"]
    done = pair.attack(tmp_path / "pll", "--attack", "loss", "--mask-plan", "pll")
    row = next(row.split() for row in done.err.splitlines() if row.strip().startswith("teacher"))
    n_tokens = sum(lengths) - 2 * n_texts
    assert row[row.index("plain") + 1 :][:2] == [f"{n_tokens:,}", f"{sum(n * (n - 2) for n in lengths):,}"]


def test_the_loss_is_the_mean_over_tokens_hidden_one_at_a_time(pair: Given, tmp_path: Path) -> None:
    done = pair.attack(tmp_path / "run", "--attack", "loss", "--attack", "reference", "--mask-plan", "pll",
                       "--student-reference", pair.start, "--teacher-reference", pair.start)  # fmt: skip
    assert done.code == 0, done.err
    models = [transformers.AutoModelForMaskedLM.from_pretrained(path).eval() for path in (pair.student, pair.start)]
    found = [scores(tmp_path / "run", "student", attack) for attack in ("loss", "reference")]
    for name, text in read_texts(pair.members).items():
        ids = encoders.word_pieces()(text)["input_ids"]
        means = []
        for model in models:
            likelihoods = []
            for i in range(1, len(ids) - 1):
                shown = torch.tensor([ids])
                shown[0, i] = encoders.MASK
                with torch.no_grad():
                    likelihoods.append(float(model(input_ids=shown).logits[0, i].log_softmax(-1)[ids[i]]))
            means.append(np.mean(likelihoods))
        assert found[0][name] == pytest.approx(means[0], abs=1e-4)
        assert found[1][name] == pytest.approx(means[0] - means[1], abs=1e-4)


def test_the_default_group_says_that_recall_is_left_to_all(pair: Given, tmp_path: Path) -> None:
    done = pair.attack(tmp_path / "run")
    assert done.code == 0, done.err
    cell = results(tmp_path / "run")["attacks"]["recall"]["student"]
    assert cell["status"] == "not_applicable"
    assert "--attack all runs it" in cell["reason"]
    assert results(tmp_path / "run")["data"]["shots"] == 0  # and no non-member is taken out for it


def test_models_of_other_families_and_tokenizers_are_compared_by_bits_per_byte(pair: Given, tmp_path: Path) -> None:
    student = encoders.save(tmp_path / "roberta", "roberta", tokenizer=encoders.byte_pairs(), seed=2, context=90)
    mixed = pair.having(student=student)
    options = ("--attack", "reference", "--attack", "loss", "--reference", pair.start)
    done = mixed.attack(tmp_path / "run", *options)
    assert done.code == 0, done.err
    assert all(np.isfinite(list(scores(tmp_path / "run", "student", "reference").values())))
    random = mixed.attack(tmp_path / "random", *options, "--mask-plan", "random:4")
    assert random.code == 0, random.err
    cell = results(tmp_path / "random")["attacks"]["reference"]["student"]
    assert "random masks hide other bytes" in cell["reason"]


def test_a_continued_audit_measures_nothing_again_and_another_plan_measures_anew(pair: Given, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert pair.attack(out, "--attack", "loss").code == 0
    kept = {path.name for path in (out / "signals").rglob("*.safetensors")}
    assert pair.attack(out, "--attack", "loss").code == 0
    assert {path.name for path in (out / "signals").rglob("*.safetensors")} == kept
    assert pair.attack(out, "--attack", "loss", "--mask-plan", "random:2", "--overwrite").code == 0
    assert not kept & ({path.name for path in (out / "signals").rglob("*.safetensors")} - kept)


def test_a_text_longer_than_the_context_is_cut_and_one_of_one_word_is_scored(pair: Given, tmp_path: Path) -> None:
    from tests.commands import texts

    made = texts(16, seed=9)
    members = [" ".join(made[:8]) + " knee", "fever", *made[8:]]
    files = [tiny.write_jsonl(tmp_path / f"{name}.jsonl", lines, prefix=name[0]) for name, lines in
             (("members", members), ("nonmembers", texts(16, seed=10)))]  # fmt: skip
    done = pair.having(members=files[0], nonmembers=files[1]).attack(tmp_path / "run", "--attack", "loss")
    assert done.code == 0, done.err
    assert "1 of 26 texts are longer than 64 tokens" in done.err
    assert np.isfinite(list(scores(tmp_path / "run", "teacher", "loss").values())).all()


def test_a_sentence_encoder_without_a_head_is_refused(pair: Given, tmp_path: Path) -> None:
    folder = tmp_path / "sentences"
    tokenizer = encoders.word_pieces()
    transformers.BertModel(encoders.config("bert", len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    done = pair.having(teacher=folder).attack(tmp_path / "run", "--attack", "loss")
    check_refused(done, str(folder), "has no language-model head", "cls.predictions", "sentence encoders")


def test_a_model_that_knows_nothing_of_the_texts_is_refused(pair: Given, tmp_path: Path) -> None:
    folder = tmp_path / "random"
    tokenizer = encoders.word_pieces()
    encoders.model("bert", n_words=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    done = pair.having(student=folder).attack(tmp_path / "run", "--attack", "loss")
    check_refused(done, str(folder), "is not a language model for these texts", "a uniform guess")
    assert not (tmp_path / "run" / "results.json").exists()


def test_a_tokenizer_that_knows_no_word_is_refused(pair: Given, tmp_path: Path) -> None:
    lines = [f"привет мир {i}" for i in range(40)]
    files = [tiny.write_jsonl(tmp_path / f"{name}.jsonl", part, prefix=name[0]) for name, part in
             (("members", lines[:20]), ("nonmembers", lines[20:]))]  # fmt: skip
    done = pair.having(members=files[0], nonmembers=files[1]).attack(tmp_path / "run", "--attack", "loss")
    check_refused(done, str(pair.teacher), "knows hardly a word of these texts")


def test_a_masked_model_without_a_mask_token_is_refused(pair: Given, given: Given, tmp_path: Path) -> None:
    folder = tmp_path / "maskless"
    tiny.tokenizer().save_pretrained(folder)
    encoders.model("bert", n_words=len(tiny.tokenizer())).save_pretrained(folder)
    done = pair.having(teacher=folder).attack(tmp_path / "run", "--attack", "loss")
    check_refused(done, str(folder), "has no mask token")
    check_refused(given.attack(tmp_path / "run", "--mask-plan", "pll"), "--mask-plan: nothing is hidden from")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--mask-plan", "random:0"), "--mask-plan: 'random:0'"),
        (("--mask-plan", "half"), "--mask-plan: 'half'"),
        (("--mask-groups", "1"), "--mask-groups: 1"),
        (("--mask-plan", "pll", "--mask-groups", "3"), "--mask-groups: --mask-plan pll has no groups"),
    ],
)
def test_a_plan_that_there_is_not_is_refused(options: tuple[str, ...], words: str, pair: Given, tmp_path: Path) -> None:
    check_refused(pair.attack(tmp_path / "run", *options), words)


def test_the_bound_of_a_median_holds_as_often_as_it_says() -> None:
    rng: Any = np.random.default_rng(0)
    draws = rng.exponential(size=(4000, 25))
    held = np.mean([median_bound(row) >= np.log(2) for row in draws])
    assert 0.985 <= held <= 1
    assert median_bound(np.arange(1.0, 6.0)) == 5, "too few values have no bound but the largest"
    assert median_bound(np.arange(100.0)) == 62, "P[Bin(100, 1/2) <= 62] is 0.994, and of 61 it is below 0.99"
