"""Masked models are distilled: the loss is their own, the teacher sees the same masks, every way to train works."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from kdaudit.distill.batches import collate, inputs_of
from kdaudit.distill.cache import CacheKey, open_cache
from kdaudit.distill.data import make_examples
from kdaudit.distill.losses import IGNORED, distillation_loss
from kdaudit.distill.student import Distiller, LossTerms, speaker
from kdaudit.records import Record
from kdaudit.results import load
from kdaudit.targets.hiding import Hiding
from kdaudit.targets.masked import Masking, masked_frame
from tests import encoders, tiny
from tests.commands import Done, check_refused, kdaudit, texts
from tests.distill.students import manifest_of
from tests.distill.training import SETTINGS, plan_of, run

CPU = torch.device("cpu")
FRAME = masked_frame(encoders.word_pieces(), Masking(), Hiding())
RECORDS = [Record(str(i), text, i) for i, text in enumerate(tiny.texts(12, seed=4, n_words=9))]
EXAMPLES = make_examples(RECORDS, encoders.word_pieces(), FRAME, window=64).items
HARD = LossTerms(objective="hard", beta=None, hard_weight=1.0, temperature=1.0)


def model(seed: int, family: str = "bert") -> Any:
    return encoders.model(family, n_words=len(encoders.word_pieces()), seed=seed)


def batch(epoch: int = 0, rows: int = 6) -> dict[str, Any]:
    return collate([(row, epoch, EXAMPLES[row]) for row in range(rows)], FRAME.kind)


def loss_of(student: Any, terms: LossTerms, made: dict[str, Any], teacher: Any = None, **options: Any) -> float:
    """The distiller's loss over all targets of a batch."""
    read, with_hidden = inputs_of(made, CPU), terms.hidden_weight > 0
    distiller = Distiller(student, speaker(student, read, with_hidden=with_hidden), terms, options.get("projection"))
    taught = None if teacher is None else speaker(teacher, read, with_hidden=with_hidden)(read)
    n_targets = torch.tensor(int((made["targets"] != IGNORED).sum()))
    with torch.no_grad():
        return float(distiller(read, made["targets"], taught, n_targets, made["sizes"].sum(), is_own=False))


@pytest.mark.parametrize("family", encoders.FAMILIES)
def test_the_hard_loss_is_the_models_own_on_the_hidden_positions(family: str) -> None:
    student, made = model(1, family), batch()
    with torch.no_grad():
        own = student(**made["tensors"], labels=made["targets"]).loss
    assert loss_of(student, HARD, made) == pytest.approx(float(own), abs=1e-5)


def test_the_soft_loss_is_that_of_both_models_own_logits() -> None:
    student, teacher, made = model(1), model(2), batch(epoch=3)
    terms = LossTerms(objective="forward-kl", beta=None, hard_weight=0.3, temperature=2.0)
    with torch.no_grad():
        said, taught = (one(**made["tensors"]).logits[made["targets"] != IGNORED] for one in (student, teacher))
        words = made["targets"][made["targets"] != IGNORED]
        soft = functional.kl_div(
            (said / 2).log_softmax(-1), (taught / 2).log_softmax(-1), reduction="batchmean", log_target=True
        )
        expected = 0.3 * functional.cross_entropy(said, words) + 0.7 * 4 * soft
    assert loss_of(student, terms, made, teacher) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("width", [32, 48])
def test_hidden_states_are_compared_by_the_cosine_of_all_tokens_in_distilberts_manner(width: int) -> None:
    from transformers import AutoModelForMaskedLM

    student, made = model(1), batch()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = encoders.config("bert", len(encoders.word_pieces()))
        config.hidden_size = width
        teacher = AutoModelForMaskedLM.from_config(config).eval()
        projection = None if width == 32 else torch.nn.Linear(32, width, bias=False)
    terms = replace(HARD, hidden_weight=0.5, is_cosine=True)
    with torch.no_grad():
        states = [
            one(**made["tensors"], output_hidden_states=True).hidden_states[-1][made["tensors"]["attention_mask"] == 1]
            for one in (student, teacher)
        ]
        own = states[0] if projection is None else projection(states[0])
        expected = functional.cosine_embedding_loss(own, states[1], torch.ones(len(own)))
    found = loss_of(student, terms, made, teacher, projection=projection) - loss_of(student, HARD, made)
    assert found == pytest.approx(0.5 * float(expected), abs=1e-5)


def test_a_row_that_stands_for_nothing_teaches_nothing() -> None:
    student, teacher = model(1), model(2)
    made = collate([(-1, 0, EXAMPLES[0])], FRAME.kind)
    terms = LossTerms("forward-kl", None, 0.5, 2.0, hidden_weight=1.0, is_cosine=True)
    read = inputs_of(made, CPU)
    ask = [speaker(one, inputs_of(batch(), CPU), with_hidden=True) for one in (student, teacher)]
    loss = Distiller(student, ask[0], terms, None)(
        read, made["targets"], ask[1](read), torch.tensor(1), torch.tensor(1), is_own=False
    )
    assert float(loss.detach()) == 0


def test_the_cache_holds_what_the_teacher_says_in_each_epoch_and_is_written_once(tmp_path: Path) -> None:
    teacher, student = model(2), model(1)
    n_loads = 0

    def speak() -> Any:
        nonlocal n_loads
        n_loads += 1
        return speaker(teacher, inputs_of(batch(), CPU))

    key = CacheKey(1, "t", "float32", 2.0, len(encoders.word_pieces()), None, ())
    cache, _ = (
        open_cache(tmp_path, key, EXAMPLES, speak, kind=FRAME.kind, n_epochs=3, device=CPU, batch_tokens=100)
        for _ in range(2)
    )
    assert n_loads == 1
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3
    losses = []
    for epoch in range(3):
        made = batch(epoch)
        read = inputs_of(made, CPU)
        said = speaker(student, read)(read).outputs
        with torch.no_grad():
            live, cached = (
                distillation_loss(
                    said, taught, made["targets"], objective="forward-kl", hard_weight=0, temperature=2, n_targets=1
                )
                for taught in (speaker(teacher, read)(read).outputs, cache.read(range(6), epoch, CPU))
            )
        assert float(live) == pytest.approx(float(cached), rel=1e-5)
        losses.append(float(live))
    assert len(set(losses)) == 3


def test_splitting_a_step_changes_no_weight(tmp_path: Path) -> None:
    """Neither the shares of targets nor those of read tokens depend on the batches of a step."""
    found = []
    for parts in (1, 3):
        student, teacher = model(1), model(2)
        for module in student.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # what is dropped is drawn batch by batch
        run(
            student, tmp_path / str(parts), teacher=teacher, examples=EXAMPLES, kind=FRAME.kind,
            plan=plan_of(EXAMPLES, n_parts=parts), settings=replace(SETTINGS, gradient_accumulation=parts),
            terms=LossTerms("forward-kl", None, 0.5, 2.0, hidden_weight=1.0, is_cosine=True),
        )  # fmt: skip
        found.append(student.state_dict())
    for name, weight in found[0].items():
        torch.testing.assert_close(weight, found[1][name], rtol=0, atol=5e-4)


@pytest.fixture(scope="module")
def distil(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Done, Path]]:
    """`kdaudit distill` on a BERT pair; gives what it said and the student's folder."""
    folder = tmp_path_factory.mktemp("masked")
    teacher = encoders.save(folder / "teacher", "bert", seed=1, context=64)
    start = encoders.save(folder / "start", "bert", seed=2, context=64)
    train = tiny.write_jsonl(folder / "train.jsonl", texts(30), prefix="r")

    def distilled(name: str, *options: object, begun: tuple[object, ...] = ("--student", start)) -> tuple[Done, Path]:
        usual: dict[str, object] = {"--epochs": 2, "--batch-tokens": 300, "--lr": 1e-3, "--teacher-saw": "none"}
        rest = [part for flag, value in usual.items() if flag not in options for part in (flag, value)]
        done = kdaudit(
            "distill",
            "--teacher",
            teacher,
            *begun,
            "--train",
            train,
            "--out",
            folder / name,
            "--quiet",
            *rest,
            *options,
        )
        return done, folder / name

    return distilled


@pytest.fixture(scope="module")
def student(distil: Callable[..., tuple[Done, Path]]) -> Path:
    done, out = distil("plain", "--coins")
    assert done.code == 0, done.err
    return out


def test_a_student_loads_in_plain_transformers_and_says_what_it_is_worth(student: Path) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    made, split = AutoModelForMaskedLM.from_pretrained(student), AutoTokenizer.from_pretrained(student)
    utility = manifest_of(student)["utility"]
    card = (student / "README.md").read_text(encoding="utf-8")
    assert utility["plan"] == "masked partition 7 seed 0"
    assert "| model | nats per token | bits per byte | pseudo-perplexity |" in card
    assert "pipeline_tag: fill-mask" in card
    held = set(manifest_of(student)["data"]["held_out"])
    assert utility["n_records"] == len(held)
    assert split.mask_token == "[MASK]"
    assert made.config.architectures == ["BertForMaskedLM"]


def test_the_held_out_loss_is_that_of_an_independent_loop_over_the_same_plan(student: Path) -> None:
    from transformers import AutoModelForMaskedLM

    from kdaudit import manifest
    from kdaudit.targets.masked import passes
    from kdaudit.targets.passage import encode

    found = manifest.load(student / "kdaudit.json").content
    key = manifest.read_key(Path(found["data"]["key_file"]))
    held = set(found["data"]["held_out"])
    lines = (student.parent / "train.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [text for text in (json.loads(line)["text"] for line in lines) if manifest.record_id(key, text) in held]
    made = AutoModelForMaskedLM.from_pretrained(student).eval()
    total, n_tokens = 0.0, 0
    for passage in encode(encoders.word_pieces(), kept):
        ids = torch.tensor([encoders.CLS, *passage.ids.tolist(), encoders.SEP])
        for hidden, _ in passes(passage, Masking()):
            shown = ids.clone()
            shown[hidden + 1] = encoders.MASK
            with torch.no_grad():
                scores = made(input_ids=shown[None]).logits[0].log_softmax(-1)
            total -= float(scores[hidden + 1, ids[hidden + 1]].sum())
            n_tokens += hidden.size
    assert found["utility"]["n_tokens"] == n_tokens
    assert found["utility"]["nll"]["student"]["value"] == pytest.approx(total / n_tokens, rel=1e-5)


def test_the_audit_takes_members_and_reference_from_the_manifest(student: Path, tmp_path: Path) -> None:
    done = kdaudit(
        "attack", "--teacher", student.parent / "teacher", "--student", student, "--out", tmp_path / "run",
        "--attack", "loss", "--attack", "reference", "--quiet",
    )  # fmt: skip
    assert done.code == 0, done.err
    result = load(tmp_path / "run" / "results.json")
    found = result.attacks["reference"].cells["student"].auc
    assert found is not None
    assert found.value is not None


@pytest.mark.parametrize(
    "options",
    [
        ("--whole-word", "--hidden-weight", 0.5),
        ("--lora", 4),
        ("--lora", 4, "--student-load", "4bit"),
        ("--teacher-load", "4bit", "--goldfish", 4),
    ],
    ids=lambda given: " ".join(map(str, given)),
)
def test_every_way_to_train_learns(options: tuple[object, ...], distil: Callable[..., tuple[Done, Path]]) -> None:
    done, out = distil("-".join(map(str, options)), *options)
    assert done.code == 0, done.err
    content = manifest_of(out)
    assert content["student"]["kind"] == "masked"
    nll = content["utility"]["nll"]
    assert nll["student"]["value"] != nll["start"]["value"]


def test_a_cached_teacher_gives_the_weights_of_a_live_one(
    distil: Callable[..., tuple[Done, Path]], tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    kept = tmp_path / "cache"
    (_, live), (done, cached) = (
        distil("live", "--objective", "reverse-kl"),
        distil("cached", "--objective", "reverse-kl", "--teacher-cache", kept, "--teacher-top-k", 200),
    )
    assert done.code == 0, done.err
    one, other = (load_file(path / "model.safetensors") for path in (live, cached))
    assert max(float(np.abs(one[name] - other[name]).max()) for name in one) < 1e-4


def test_layers_of_the_teacher_keep_its_embeddings_and_its_head(distil: Callable[..., tuple[Done, Path]]) -> None:
    from safetensors.numpy import load_file

    done, out = distil("layers", "--epochs", 1, "--lr", 1e-9, begun=("--student-layers", "1"))
    assert done.code == 0, done.err
    taken, teacher = load_file(out / "model.safetensors"), load_file(out.parent / "teacher" / "model.safetensors")
    head = [name for name in taken if name.startswith(("cls.", "bert.embeddings."))]
    assert len(head) >= 8
    for name in head:
        np.testing.assert_allclose(taken[name], teacher[name], atol=1e-6)
    layer = {name.replace("layer.1.", "layer.0."): value for name, value in teacher.items() if "layer.1." in name}
    for name, value in layer.items():
        np.testing.assert_allclose(taken[name], value, atol=1e-6)


def test_random_weights_of_a_configuration_are_a_start(
    distil: Callable[..., tuple[Done, Path]], tmp_path: Path
) -> None:
    encoders.config("distilbert", len(encoders.word_pieces())).save_pretrained(tmp_path)
    done, out = distil("random", begun=("--student-config", tmp_path / "config.json"))
    assert done.code == 0, done.err
    assert manifest_of(out)["student"]["architecture"] == "DistilBertForMaskedLM"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--on-policy", 0.5), "masked language model, which writes no texts"),
        (("--sequence-level",), "masked language model, which writes no texts"),
        (("--as", "seq2seq"), "cannot be loaded as an encoder-decoder"),
    ],
)
def test_what_means_nothing_to_a_masked_model_is_refused(
    options: tuple[object, ...], words: str, distil: Callable[..., tuple[Done, Path]]
) -> None:
    done, _ = distil("refused", *options)
    check_refused(done, words)


def test_a_start_without_a_head_is_refused_before_anything_is_trained(
    distil: Callable[..., tuple[Done, Path]], tmp_path: Path
) -> None:
    from transformers import BertModel

    split = encoders.word_pieces()
    BertModel(encoders.config("bert", len(split))).save_pretrained(tmp_path / "body")
    split.save_pretrained(tmp_path / "body")
    done, out = distil("headless", begun=("--student", tmp_path / "body"))
    check_refused(done, "has no language-model head", "cls.predictions")
    assert not (out / "training").exists()


def test_a_causal_student_of_a_masked_teacher_is_refused(
    distil: Callable[..., tuple[Done, Path]], tmp_path: Path
) -> None:
    causal = tiny.save(tmp_path / "causal", "gpt2", seed=1)
    done, _ = distil("mixed", begun=("--student", causal))
    check_refused(done, "is a masked language model, and the student", "is a causal language model")
