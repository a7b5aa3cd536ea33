"""Encoder-decoders are distilled: the loss is their own, the teacher writes completions, gaps in texts are learnt."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdaudit.distill.batches import collate, inputs_of
from kdaudit.distill.data import make_examples
from kdaudit.distill.generation import continue_all, teacher_sequences
from kdaudit.distill.losses import IGNORED
from kdaudit.distill.student import Distiller, LossTerms, speaker
from kdaudit.records import Record
from kdaudit.targets.frames import frame_of
from kdaudit.targets.hiding import Hiding, hidden_places
from kdaudit.targets.plan import Frame
from tests import pairs, tiny
from tests.commands import Done, check_refused, kdaudit, texts
from tests.distill.students import manifest_of

CPU = torch.device("cpu")
HARD = LossTerms(objective="hard", beta=None, hard_weight=1.0, temperature=1.0)


def frame(family: str, *, has_prompts: bool) -> Frame:
    config = pairs.model(family).config
    return frame_of(
        "seq2seq", pairs.tokenizer(family), hiding=Hiding(), decoder_start=config.decoder_start_token_id,
        model_type=config.model_type, has_prompts=has_prompts,
    )  # fmt: skip


def examples(family: str) -> tuple[Any, Any]:
    shown = frame(family, has_prompts=True)
    records = [
        Record(str(i), prompt + completion, i, n_prompt=len(prompt))
        for i, (prompt, completion) in enumerate(pairs.texts(8, seed=2))
    ]
    return make_examples(records, pairs.tokenizer(family), shown, window=64).items, shown


@pytest.mark.parametrize("family", ["t5", "bart", "pegasus", "mbart"])
def test_the_hard_loss_is_the_models_own_with_labels(family: str) -> None:
    made, shown = examples(family)
    student = pairs.model(family).eval()
    batch = collate([(row, 0, example) for row, example in enumerate(made)], shown.kind)
    read = inputs_of(batch, CPU)
    n_targets = torch.tensor(int((batch["targets"] != IGNORED).sum()))
    with torch.no_grad():
        loss = Distiller(student, speaker(student, read), HARD, None)(
            read, batch["targets"], None, n_targets, batch["sizes"].sum(), is_own=False
        )
        own = student(**read.tensors, labels=batch["targets"]).loss
    assert float(loss) == pytest.approx(float(own), abs=1e-5)


@pytest.mark.parametrize("family", ["t5", "bart", "pegasus", "mbart"])
def test_what_a_model_writes_is_what_plain_transformers_writes(family: str) -> None:
    from transformers import GenerationConfig

    made, shown = examples(family)
    model = pairs.model(family).eval()
    written = continue_all(model, made[:1], n_lead=len(shown.start), end=shown.end, seed=5)[0]
    n_new = made[0].ids.size - len(shown.start)
    torch.manual_seed(5)
    model.generation_config = GenerationConfig()
    own = model.generate(
        input_ids=torch.from_numpy(made[0].source.astype(np.int64))[None],
        decoder_input_ids=torch.tensor([list(shown.start)]),
        generation_config=GenerationConfig(
            do_sample=True, top_k=0, max_new_tokens=n_new, eos_token_id=shown.end, pad_token_id=shown.end,
            decoder_start_token_id=shown.start[0],
        ),
    )[0].tolist()  # fmt: skip
    assert written.ids.tolist() == own[: written.ids.size]
    assert written.source.tolist() == made[0].source.tolist()
    assert shown.end not in own[len(shown.start) : written.ids.size - 1]


def test_the_teachers_completions_are_written_once_and_read_again(tmp_path: Path) -> None:
    made, shown = examples("t5")
    options: dict[str, Any] = {"n_lead": 1, "end": shown.end, "seed": 1, "batch_tokens": 60, "on_done": lambda _: None}
    first = teacher_sequences(lambda: nullcontext(pairs.model("t5")), made, tmp_path / "s", **options)
    again = teacher_sequences(None, made, tmp_path / "s", **options)  # type: ignore[arg-type]  # not asked again
    for one, other, example in zip(first, again, made, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.source.tolist() == other.source.tolist() == example.source.tolist()
        assert one.ids.size <= example.ids.size


def test_gaps_are_written_as_t5_was_taught() -> None:
    """Sentinels in the place of runs, then every sentinel with its run, a last sentinel and the end."""
    shown, split = frame("t5", has_prompts=False), pairs.tokenizer("t5")
    sentinels = split.convert_tokens_to_ids(list(pairs.SENTINELS))
    record = Record("a", " ".join(tiny.texts(3, seed=1, n_words=9)), 1)
    example = make_examples([record], split, shown, window=64).items[0]
    seen = set()
    for epoch in range(6):
        hidden = hidden_places(example, Hiding(), epoch)[0].tolist()
        showing = shown.kind.learn(example, epoch)
        read: list[int] = []
        written: list[int] = []
        for place, token in enumerate(example.ids.tolist()):
            if place not in hidden:
                read.append(token)
                continue
            if place - 1 not in hidden:
                read.append(sentinels[sum(token in sentinels for token in written)])
                written.append(read[-1])
            written.append(token)
        written += [sentinels[sum(token in sentinels for token in written)], 1]
        assert showing.source.tolist() == [*read, 1]
        assert showing.targets.tolist() == written
        assert showing.ids.tolist() == [*shown.start, *written[:-1]]
        seen.add(tuple(written))
    assert len(seen) == 6


def test_more_gaps_than_sentinels_are_as_many_as_there_are_sentinels() -> None:
    shown, split = frame("t5", has_prompts=False), pairs.tokenizer("t5")
    record = Record("a", " ".join(tiny.texts(40, seed=1, n_words=20)), 1)
    example = make_examples([record], split, shown, window=4000).items[0]
    showing = shown.kind.learn(example, 0)
    known = set(split.convert_tokens_to_ids(list(pairs.SENTINELS)))
    assert len([token for token in showing.source if token in known]) == len(pairs.SENTINELS)
    assert len([token for token in showing.targets if token in known]) == len(pairs.SENTINELS)


@pytest.fixture(scope="module")
def distil(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Done, Path]]:
    """`kdaudit distill` on a T5 pair, on prompts with completions or on texts."""
    folder = tmp_path_factory.mktemp("seq2seq")
    teacher, start = (pairs.save(folder / f"t5-{seed}", "t5", seed=seed, context=64) for seed in (1, 2))
    records = {
        "pairs": pairs.write_jsonl(folder / "pairs.jsonl", pairs.texts(30, seed=5), prefix="r"),
        "texts": tiny.write_jsonl(folder / "texts.jsonl", texts(30), prefix="r"),
    }

    def distilled(name: str, *options: object, train: str = "pairs") -> tuple[Done, Path]:
        done = kdaudit(
            "distill", "--teacher", teacher, "--student", start, "--train", records[train], "--out", folder / name,
            "--epochs", 1, "--batch-tokens", 400, "--lr", 1e-3, "--teacher-saw", "none", "--quiet", *options,
        )  # fmt: skip
        return done, folder / name

    return distilled


@pytest.mark.parametrize(
    ("train", "options"),
    [
        ("pairs", ("--hidden-weight", 1)),
        ("pairs", ("--sequence-level",)),
        ("pairs", ("--on-policy", 0.5)),
        ("pairs", ("--lora", 4, "--student-load", "4bit")),
        ("texts", ("--whole-word",)),
    ],
    ids=str,
)
def test_every_way_to_train_learns(
    train: str, options: tuple[object, ...], distil: Callable[..., tuple[Done, Path]]
) -> None:
    done, out = distil(f"{train}-{'-'.join(map(str, options))}", *options, train=train)
    assert done.code == 0, done.err
    content = manifest_of(out)
    assert content["student"]["kind"] == "seq2seq"
    nll = content["utility"]["nll"]
    assert nll["student"]["value"] != nll["start"]["value"]
    assert content["utility"]["plan"] == ("seq2seq" if train == "pairs" else "seq2seq spans partition 7 seed 0")


def test_a_cached_teacher_gives_the_weights_of_a_live_one(
    distil: Callable[..., tuple[Done, Path]], tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    objective = ("--objective", "reverse-kl")  # smooth where no word of the teacher is left over
    (_, live), (done, cached) = (
        distil("live", *objective),
        distil("cached", *objective, "--teacher-cache", tmp_path, "--teacher-top-k", 1000),
    )
    assert done.code == 0, done.err
    one, other = (load_file(path / "model.safetensors") for path in (live, cached))
    assert max(float(np.abs(one[name] - other[name]).max()) for name in one) < 1e-4


@pytest.mark.parametrize(
    ("train", "options", "words"),
    [
        ("texts", ("--sequence-level",), "texts without prompts give it none to answer"),
        ("texts", ("--on-policy", 0.5), "texts without prompts give it none to answer"),
        ("pairs", ("--whole-word",), "so no words are hidden from it"),
    ],
)
def test_what_means_nothing_is_refused(
    train: str, options: tuple[object, ...], words: str, distil: Callable[..., tuple[Done, Path]]
) -> None:
    check_refused(distil("refused", *options, train=train)[0], words)
