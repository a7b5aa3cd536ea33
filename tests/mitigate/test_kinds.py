"""Masked models and encoder-decoders are compared as causal ones are: arms, controls, and starts that were changed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import encoders, pairs, tiny
from tests.commands import kdaudit, texts

FAST = ("--epochs", 2, "--plain-epochs", 1, "--lr", 1e-3, "--batch-tokens", 400, "--quiet")


@pytest.mark.slow  # about a minute each: three students, eight copies and the teacher are trained or scored
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_masked_pair_is_compared_and_its_changed_student_loads_in_plain_transformers(
    family: str, tmp_path: Path
) -> None:
    from transformers import AutoModelForMaskedLM

    begun, start = (encoders.save(tmp_path / f"{family}-{seed}", family, seed=seed, context=128) for seed in (1, 2))
    made = texts(100, seed=5)
    members = tiny.write_jsonl(tmp_path / "members.jsonl", made[:40], prefix="m")
    nonmembers = tiny.write_jsonl(tmp_path / "nonmembers.jsonl", made[40:], prefix="n")
    out, teacher = tmp_path / "out", tmp_path / "teacher"
    learnt = kdaudit(  # a teacher that knows its members, so that some of them are vulnerable
        "distill", "--teacher", begun, "--student", begun, "--train", members, "--nonmembers", nonmembers,
        "--objective", "hard", "--epochs", 60, "--lr", 1e-2, "--batch-tokens", 400, "--out", teacher, "--quiet",
    )  # fmt: skip
    assert learnt.code == 0, learnt.err
    methods = "non-vulnerable,bottleneck,no-norm,soft-only,reverse-kl,label-smoothing,early-stop"
    done = kdaudit(
        "mitigate", "--teacher", teacher, "--student", start, "--train", members, "--nonmembers", nonmembers,
        "--method", methods, "--seeds", 1, "--out", out, *FAST,
    )  # fmt: skip
    assert done.code == 0, done.err
    arms = set(json.loads((out / "mitigation.json").read_text(encoding="utf-8"))["arms"])
    assert arms >= {"plain", "non-vulnerable", "non-vulnerable-control", "bottleneck", "no-norm", "soft-only"}
    for arm in ("bottleneck", "no-norm"):
        folder = out / arm / "seed-0"
        model = AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True).eval()
        with torch.no_grad():
            logits = model(torch.arange(5, 15)[None]).logits
        assert bool(np.isfinite(logits.numpy()).all())


@pytest.mark.slow
def test_an_encoder_decoder_is_compared(tmp_path: Path) -> None:
    teacher, start = (pairs.save(tmp_path / f"t5-{seed}", "t5", seed=seed, context=64) for seed in (1, 2))
    made = pairs.texts(48, seed=5)
    members = pairs.write_jsonl(tmp_path / "members.jsonl", made[:24], prefix="m")
    nonmembers = pairs.write_jsonl(tmp_path / "nonmembers.jsonl", made[24:], prefix="n")
    done = kdaudit(
        "mitigate", "--teacher", teacher, "--student", start, "--train", members, "--nonmembers", nonmembers,
        "--method", "bottleneck,no-norm,soft-only", "--seeds", 1, "--out", tmp_path / "out", *FAST,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "bottleneck" / "seed-0" / "kdaudit.json").is_file()
