"""The whole command on real, tiny checkpoints: what it writes, what it must not, and whether the numbers are right."""

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from kdaudit.attacks import ATTACKS
from kdaudit.results import load
from tests import tiny
from tests.commands import FINISHED, NAMES, Given, files_in, lines, read_texts, results

ESTIMATE = {"value", "low", "high", "n", "m", "level", "method"}
DIFFERENCE = {*ESTIMATE, "p_value", "p_value_holm"}
RATES = {"0.001", "0.01", "0.1"}
THRESHOLD_METRICS = ("balanced_accuracy", "member_success", "nonmember_success")


def check_fixed_keys(found: dict[str, Any], models: set[str]) -> None:
    """The layout that architecture.md fixes for results.json."""
    assert found["schema"] == "kdaudit.results/1"
    assert found["kdaudit_version"]
    assert set(found["models"]) == models
    assert {"members", "nonmembers", "shots", "sha256"} <= found["data"].keys()
    assert {"status", "blind_auc", "duplicates", "overlap", "warnings"} <= found["validity"].keys()
    assert found["validity"]["blind_auc"].keys() >= ESTIMATE
    assert set(found["mixed_supervision"]) == models - {"teacher"}
    assert {"status", "gates"} <= found["verdict"].keys()
    for attack in found["attacks"].values():
        assert {*models, "comparison", "curves", "histograms", "two_by_two"} <= attack.keys()
        for model in models:
            check_cell(attack[model])
        assert set(attack["comparison"]) == models - {"teacher"}
        for comparison in attack["comparison"].values():
            if comparison["status"] == "ok":
                check_figures(comparison, DIFFERENCE)


def check_cell(cell: dict[str, Any]) -> None:
    if cell["status"] == "not_applicable":
        assert cell["reason"]
        return
    assert cell["status"] == "ok"
    assert cell["unscored"] == 0
    check_figures(cell, ESTIMATE)


def check_figures(part: dict[str, Any], keys: set[str]) -> None:
    assert set(part["tpr_at_fpr"]) == RATES
    for figure in (*(part[name] for name in ("auc", *THRESHOLD_METRICS)), *part["tpr_at_fpr"].values()):
        assert keys <= figure.keys()
        assert (figure["value"] is None) == bool(figure.get("reason"))


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("gpt2", "llama"),
        ("llama", "gpt_neox"),
        ("gpt_neox", "opt"),
        ("opt", "mamba"),
        ("mamba", "gemma2"),
        ("gemma2", "gpt2"),
    ],
)
def test_every_architecture_goes_through_the_whole_command(
    teacher: str, student: str, given: Given, checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    pair = given.having(teacher=checkpoint(teacher, seed=1), student=checkpoint(student, seed=2))
    done = pair.attack(tmp_path, "--attack", "all", "--reference", given.start)
    assert done.code == 0, done.err

    found = results(tmp_path)
    check_fixed_keys(found, {"teacher", "student"})
    assert list(found["attacks"]) == list(ATTACKS)
    assert {attack[model]["status"] for attack in found["attacks"].values() for model in found["models"]} == {"ok"}
    assert load(tmp_path / "results.json").verdict.status == "not_gated"

    rows = pq.read_table(tmp_path / "scores.parquet")
    assert rows.column_names == ["id", "member", "part", "model", "attack", "score"]
    n_records = found["data"]["members"] + found["data"]["nonmembers"]
    assert rows.num_rows == n_records * len(ATTACKS) * 2
    assert rows["score"].null_count == 0
    check_no_text(tmp_path, done.out + done.err)


def check_no_text(out: Path, printed: str) -> None:
    """No word that only records hold stands in any artefact, the columns of the compressed ones included."""
    rows = pq.read_table(out / "scores.parquet")
    columns = [set(map(str, rows[name].to_pylist())) for name in rows.column_names]
    places = {**files_in(out), "stdout and stderr": printed.encode(), "scores": repr(columns).encode()}
    assert {Path(name).suffix for name in places} >= {".json", ".parquet", ".md", ".safetensors"}
    for place, content in places.items():
        for name in NAMES:
            assert name.lower().encode() not in content.lower(), place


def test_a_record_without_an_id_is_shown_by_a_keyed_hash_and_its_text_nowhere(given: Given, tmp_path: Path) -> None:
    files = {}
    for name, path in (("members", given.members), ("nonmembers", given.nonmembers)):
        files[name] = tmp_path / f"{name}.txt"
        files[name].write_text("\n".join(list(read_texts(path).values())[:8]), encoding="utf-8")
    done = given.having(**files).attack(tmp_path / "run", "--attack", "loss")
    assert done.code == 0, done.err
    check_no_text(tmp_path / "run", done.out + done.err)
    ids = pq.read_table(tmp_path / "run" / "scores.parquet")["id"].to_pylist()
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in ids)
    assert len(set(ids)) == 16


def test_the_manifest_says_how_to_repeat_the_run(finished: Path, given: Given) -> None:
    manifest = json.loads((finished / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["status"] == "complete"
    compute = manifest["compute"]
    assert [compute[name] for name in ("device", "dtype", "batch_tokens")] == ["cpu", "float32", 4096]
    assert compute["chat_date"] == "2024-07-26"
    assert {"torch", "transformers", "numpy", "python"} <= manifest["versions"].keys()
    assert manifest["models"]["teacher"]["name"] == str(given.teacher)
    assert manifest["models"]["student"]["reference"]["name"] == str(given.start)
    assert [source["records"] for source in manifest["data"]["sources"]] == [24, 24]
    assert manifest["identity"]["seed"] == 0


def test_the_summary_shows_models_figures_and_verdict(finished: Path, given: Given) -> None:
    summary = (finished / "summary.md").read_text(encoding="utf-8")
    auc = results(finished)["attacks"]["reference"]["student"]["auc"]["value"]
    asked, told = "# Does the student give away its training data?", "No verdict: no limit was set"
    for words in (asked, told, str(given.student), f"{auc:.3f}", "24 members, 24 non-members", "blind"):
        assert words.replace("_", "&#95;") in summary


def token_logprobs(folder: Path, text_of: dict[str, str]) -> dict[str, NDArray[np.float64]]:
    """Of every token but a text's first, by plain transformers: one text, one pass, no batch."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    found = {}
    for name, text in text_of.items():
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            logprobs = model(ids).logits[0, :-1].double().log_softmax(-1)
        found[name] = logprobs.gather(-1, ids[0, 1:, None])[:, 0].numpy()
    return found


def lowest_fifth(logprobs: NDArray[np.float64]) -> float:
    return float(np.sort(logprobs)[: max(1, math.floor(0.2 * logprobs.size))].mean())


def test_scores_and_auc_agree_with_plain_transformers_and_scikit_learn(given: Given, tmp_path: Path) -> None:
    done = given.attack(tmp_path, *FINISHED, "--attack", "min-k", "--reference", given.start, "--limit", 8)
    assert done.code == 0, done.err
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    every_text = {**read_texts(given.members), **read_texts(given.nonmembers)}
    text_of = {row["id"]: every_text[row["id"]] for row in rows}
    folders = {"teacher": given.teacher, "student": given.student, "start": given.start}
    by_model = {name: token_logprobs(folder, text_of) for name, folder in folders.items()}
    for row in rows:
        own, start = by_model[row["model"]][row["id"]], by_model["start"][row["id"]]
        expected = {"loss": own.mean(), "min-k": lowest_fifth(own), "reference": (own - start).mean()}
        assert row["score"] == pytest.approx(expected[row["attack"]], abs=1e-4)

    found = results(tmp_path)["attacks"]
    for attack in ("loss", "min-k", "reference"):
        for model in ("teacher", "student"):
            cell = [row for row in rows if (row["attack"], row["model"]) == (attack, model)]
            expected_auc = roc_auc_score([row["member"] for row in cell], [row["score"] for row in cell])
            assert found[attack][model]["auc"]["value"] == pytest.approx(expected_auc)
        gain = found[attack]["student"]["auc"]["value"] - found[attack]["teacher"]["auc"]["value"]
        assert found[attack]["comparison"]["student"]["auc"]["value"] == pytest.approx(gain)


def test_parts_are_drawn_once_for_all_cells(finished: Path) -> None:
    rows = pq.read_table(finished / "scores.parquet").to_pylist()
    part_of = {row["id"]: row["part"] for row in rows}
    assert all(part_of[row["id"]] == row["part"] for row in rows)
    for kind in ("m", "n"):
        parts = [part for name, part in part_of.items() if name.startswith(kind)]
        assert parts.count("calibration") == round(0.3 * 24)
        assert parts.count("evaluation") == 24 - round(0.3 * 24)


def test_the_papers_figures_are_labelled_added_on_request_and_never_gated(
    finished: Path, given: Given, tmp_path: Path
) -> None:
    assert "in-sample" not in (finished / "results.json").read_text(encoding="utf-8")
    done = given.attack(
        tmp_path, "--attack", "loss", "--attack", "min-k", "--paper-compat", "--gate", "student.auc <= 0.9"
    )
    assert done.code == 3
    found = results(tmp_path)
    paper = found["attacks"]["min-k"]["student"]["paper_compat"]
    assert "in-sample" in paper["label"]
    assert {"auc", "balanced_accuracy", "member_success", "nonmember_success"} <= paper.keys()
    # Only min-k has another fraction in the paper.
    assert (
        found["attacks"]["loss"]["student"]["paper_compat"]["auc"]
        == found["attacks"]["loss"]["student"]["auc"]["value"]
    )
    assert paper["auc"] != found["attacks"]["min-k"]["student"]["auc"]["value"]
    assert [gate["metric"] for gate in found["verdict"]["gates"]] == ["auc"]
    assert "paper" not in json.dumps(found["verdict"])


def test_a_quantised_adapter_goes_through_the_command(given: Given, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    base, adapter = tmp_path / "base", tmp_path / "adapter"
    # 64 wide: bitsandbytes quantises in blocks of 64 weights.
    size: dict[str, Any] = {"vocab_size": tiny.VOCABULARY, "n_positions": 64, "n_embd": 64, "n_layer": 1, "n_head": 2}
    torch.manual_seed(0)  # some adapters of chance make a model that no audit takes for one
    plain = GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=0))
    tiny.teach(plain, tiny.tokenizer(), lines())
    plain.save_pretrained(base)
    tiny.tokenizer().save_pretrained(base)
    settings = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    with warnings.catch_warnings(action="ignore"):  # peft uses what transformers is about to remove
        model = get_peft_model(GPT2LMHeadModel.from_pretrained(base), settings)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.05)
    model.save_pretrained(str(adapter))

    done = given.having(student=adapter).attack(
        tmp_path / "run", "--attack", "loss", "--attack", "reference", "--student-reference", base,
        "--student-load", "4bit",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "arning" not in done.err
    found = results(tmp_path / "run")
    student = found["models"]["student"]
    assert (student["load"], student["base"]["name"]) == ("4bit", str(base))
    assert (found["models"]["teacher"]["load"], student["reference"]["load"]) == (None, "4bit")
    assert found["attacks"]["reference"]["student"]["auc"]["value"] is not None
    assert found["attacks"]["reference"]["teacher"]["status"] == "not_applicable"
