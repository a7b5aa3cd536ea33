"""Adapters and quantised weights of encoders and encoder-decoders are loaded and scored as peft and bitsandbytes do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from pyarrow import parquet

from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.loading import loaded
from kdaudit.targets.masked import Masking, masked_frame
from tests import encoders, families, pairs
from tests.commands import CONTEXT, Given, read_texts

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


def found(folder: Path, **options: Any) -> Checkpoint:
    return find(str(folder), option="--student", **options)


def logits(checkpoint: Checkpoint, family: str) -> torch.Tensor:
    with loaded(checkpoint, device="cpu", dtype="float32") as model, torch.no_grad():
        return model(**families.inputs(family, 6)).logits  # type: ignore[no-any-return]


def plain(folder: Path, family: str, **options: Any) -> Any:
    """As transformers loads it by itself."""
    kind = "Seq2SeqLM" if family in families.PAIRED else "MaskedLM"
    return getattr(transformers, f"AutoModelFor{kind}").from_pretrained(folder, **options).eval()


def save_base(folder: Path, family: str) -> Path:
    families.untrained(family).save_pretrained(folder)
    families.tokenizer(family).save_pretrained(folder)
    return folder


def save_adapter(base: Path, family: str, to: Path, task: str | None, targets: Sequence[str], **settings: Any) -> Any:
    """An adapter that is no start any more, and the model that plain peft loads from it."""
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=list(targets), task_type=task, init_lora_weights=False, **settings)
    adapted = get_peft_model(plain(base, family), config)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "modules_to_save" in name:
                weight.add_(0.1)
            elif "lora_B" in name:
                weight.mul_(0.3)
    adapted.save_pretrained(str(to))
    return PeftModel.from_pretrained(plain(base, family), str(to)).eval()


ADAPTED: dict[str, tuple[str, str | None, list[str], dict[str, Any]]] = {
    "no task": ("bert", None, ["query", "value"], {}),
    "features": ("bert", "FEATURE_EXTRACTION", ["query", "value"], {}),
    "head saved": ("bert", None, ["query"], {"modules_to_save": ["cls"]}),
    "distilbert": ("distilbert", None, ["q_lin", "lin1"], {}),
    "modernbert": ("modernbert", None, ["Wqkv", "Wi"], {}),
    "t5": ("t5", "SEQ_2_SEQ_LM", ["q", "v"], {}),
    "bart": ("bart", "SEQ_2_SEQ_LM", ["q_proj", "fc1"], {}),
}


@pytest.mark.parametrize(("family", "task", "targets", "settings"), ADAPTED.values(), ids=ADAPTED)
def test_an_adapted_model_gives_the_logits_of_plain_peft(
    family: str, task: str | None, targets: list[str], settings: dict[str, Any], tmp_path: Path
) -> None:
    base = save_base(tmp_path / "base", family)
    peft = save_adapter(base, family, tmp_path / "adapter", task, targets, **settings)
    read = families.inputs(family, 6)
    with torch.no_grad():
        expected, unadapted = (model(**read).logits for model in (peft.get_base_model(), plain(base, family)))
    assert torch.allclose(logits(found(tmp_path / "adapter"), family), expected, atol=1e-5)
    assert not torch.allclose(unadapted, expected, atol=1e-2)


@pytest.mark.parametrize(
    ("family", "how", "least"),
    [
        *((family, "4bit", 0.95) for family in ("bert", "mobilebert", "albert", "modernbert", "t5", "bart")),
        ("mobilebert", "8bit", 0.999), ("t5", "8bit", 0.999),
    ],
)  # fmt: skip
def test_a_quantised_model_predicts_nearly_as_before(family: str, how: str, least: float, tmp_path: Path) -> None:
    expected = logits(found(save_base(tmp_path, family)), family)
    quantised = logits(found(tmp_path, load=how), family)
    assert not torch.equal(quantised, expected)
    assert float(torch.corrcoef(torch.stack([quantised.flatten(), expected.flatten()]))[0, 1]) > least


def scores(out: Path) -> dict[str, float]:
    rows = parquet.read_table(out / "scores.parquet").to_pylist()
    return {row["id"]: row["score"] for row in rows if (row["model"], row["attack"]) == ("student", "loss")}


def check_masked_scores(out: Path, given: Given, model: Any, tolerance: float) -> None:
    """The score of a text is its mean log-likelihood under a model of plain transformers."""
    split = encoders.word_pieces()
    frame, asked = masked_frame(split, Masking()), list(read_texts(given.members).items())[:4]
    for (name, _), passage in zip(asked, frame.kind.encode(split, [text for _, text in asked], None), strict=True):
        likelihoods = []
        for one in frame.plan(passage).showings:
            with torch.no_grad():
                logits = model(input_ids=torch.from_numpy(one.ids.astype(np.int64))[None]).logits[0].log_softmax(-1)
            likelihoods += [float(logits[i, target]) for i, target in zip(one.columns, one.targets, strict=True)]
        assert scores(out)[name] == pytest.approx(np.mean(likelihoods), abs=tolerance)


def test_a_masked_adapter_and_a_quantised_bert_are_audited(given: Given, tmp_path: Path) -> None:
    base = encoders.save(tmp_path / "base", "bert", seed=1)
    peft = save_adapter(base, "bert", tmp_path / "adapter", None, ["query", "value"])
    adapted = Given(base, tmp_path / "adapter", base, given.members, given.nonmembers)
    done = adapted.attack(tmp_path / "adapted", "--attack", "loss")
    assert done.code == 0, done.err
    check_masked_scores(tmp_path / "adapted", given, peft.get_base_model(), 1e-4)
    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=["cls"],
    )  # fmt: skip
    done = adapted.having(student=base).attack(tmp_path / "quantised", "--attack", "loss", "--student-load", "4bit")
    assert done.code == 0, done.err
    model = plain(base, "bert", quantization_config=config, device_map={"": "cpu"})
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    check_masked_scores(tmp_path / "quantised", given, model, 1e-3)


def test_an_adapted_t5_is_audited(tmp_path: Path) -> None:
    base = pairs.save(tmp_path / "base", "t5", seed=1, context=CONTEXT)
    peft = save_adapter(base, "t5", tmp_path / "adapter", "SEQ_2_SEQ_LM", ["q", "v"])
    asked, split = pairs.texts(48, seed=5), pairs.tokenizer("t5")
    members = pairs.write_jsonl(tmp_path / "members.jsonl", asked[:24], prefix="m")
    nonmembers = pairs.write_jsonl(tmp_path / "nonmembers.jsonl", asked[24:], prefix="n")
    given = Given(base, tmp_path / "adapter", base, members, nonmembers)
    done = given.attack(tmp_path / "run", "--attack", "loss")
    assert done.code == 0, done.err
    for i, (prompt, completion) in enumerate(asked[:4]):
        labels = torch.tensor([split(completion, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            loss = peft(input_ids=torch.tensor([split(prompt)["input_ids"]]), labels=labels).loss
        assert scores(tmp_path / "run")[f"m{i}"] == pytest.approx(-float(loss), abs=1e-5)
