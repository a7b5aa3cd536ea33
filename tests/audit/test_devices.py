"""An audit of models that lie on several devices: its plan, what it refuses, and that its figures are the same."""

import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from socket import socket
from typing import Any

import numpy as np
import pandas as pd
import pytest
import transformers

from kdaudit.models.devices import Placement
from kdaudit.models.weights import sha256_files
from kdaudit.signals.agreement import first_signals
from tests import sparse, tiny
from tests.commands import CONTEXT, Done, Given, check_refused, kdaudit, lines, results

PLANNED = ("--attack", "loss", "--plan-only", "--device-map", "auto")


@pytest.fixture(scope="module")
def llama(checkpoint: Callable[..., Path], given: Given) -> Given:
    """A teacher and a student whose architecture has a plan of tensor parallelism."""
    return given.having(teacher=checkpoint("llama", seed=1), student=checkpoint("llama", seed=2))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 14 GB of which the headers alone are there."""
    config = transformers.LlamaConfig(
        vocab_size=32_000, hidden_size=4096, intermediate_size=11_008, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=32, max_position_embeddings=CONTEXT, tie_word_embeddings=False,
    )  # fmt: skip
    return sparse.save(tmp_path_factory.mktemp("sparse") / "large", config)


def test_a_plan_for_devices_that_are_not_here_reads_no_weights(
    large: Path, given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdaudit.models.checkpoint.sha256_files", _of_small_files(sha256_files))
    audited = given.having(teacher=large)
    done = audited.attack(tmp_path / "run", *PLANNED, "--max-memory", "10GB,12GB", "--dtype", "bfloat16")
    assert done.code == 0, done.err
    rows = [line.split() for line in done.out.splitlines() if line.strip().startswith("teacher") and "GPU" in line]
    assert [row[2] for row in rows] == ["0", "1"]
    assert sum(int(row[3]) for row in rows) == 32
    assert "lm_head" in done.out
    assert "on cuda (--device-map auto) in bfloat16" in done.out.replace("\n", " ")
    assert not (tmp_path / "run").exists()


def _of_small_files(digest: Callable[[list[Path]], str]) -> Callable[[list[Path]], str]:
    def checked(files: list[Path]) -> str:
        assert not [path for path in files if path.suffix == ".safetensors"], "a plan reads no weights"
        return digest(files)

    return checked


def test_a_plan_that_does_not_fit_is_shown_and_ends_with_2(large: Path, given: Given, tmp_path: Path) -> None:
    audited = given.having(teacher=large)
    sizes = ("--max-memory", "2GB,2GB,cpu=12GB")
    done = audited.attack(tmp_path / "run", *PLANNED, *sizes, "--teacher-load", "4bit", "--dtype", "bfloat16")
    assert done.code == 2
    assert "Devices" in done.out
    assert "would lie on the CPU" in done.err
    assert "Traceback" not in done.err
    done = audited.attack(tmp_path / "run", *PLANNED, "--max-memory", "1GB,cpu=1GB", "--dtype", "bfloat16")
    assert done.code == 2
    assert "no room" in done.out
    assert "fit on no device" in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--device-map", "auto", "--device", "cpu"), ("--device-map auto", "--device cpu")),
        (("--max-memory", "24GiB"), ("--max-memory", "--device-map auto")),
        (("--device-map", "tp", "--max-memory", "24GiB"), ("--max-memory",)),
        (("--device-map", "auto", "--max-memory", "24"), ("--max-memory", "'24' cannot be read")),
        (
            ("--device-map", "auto", "--max-memory", "24GiB,24GiB"),
            ("names 2 GPUs", "0 GPUs are here", "--plan-only"),
        ),
        (("--device-map", "auto", "--max-memory", "cpu=10KB"), ("does not fit", "--batch-tokens")),
        (("--device-map", "tp"), ("--device-map tp", "torchrun")),
        (("--device-map", "cuda"), ("--device-map", "auto, tp")),
    ],
)
def test_what_cannot_be_meant_is_refused(
    given: Given, tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    check_refused(given.attack(tmp_path / "run", "--attack", "loss", *options), *words)


@pytest.mark.parametrize(
    ("architecture", "n", "words"),
    [("gpt2", 2, ("GPT2LMHeadModel", "no plan")), ("llama", 4, ("LlamaForCausalLM", "2 attention heads"))],
)
def test_what_processes_cannot_hold_together_is_refused(
    given: Given, checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    architecture: str, n: int, words: tuple[str, ...],
) -> None:  # fmt: skip
    for name, value in {"RANK": "0", "WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    audited = given.having(teacher=checkpoint(architecture, seed=1))
    done = audited.attack(tmp_path / "run", "--attack", "loss", "--device-map", "tp")
    check_refused(done, "--device-map tp", *words, "--device-map auto")


def test_work_is_divided_or_models_are_but_not_both(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = given.attack(tmp_path / "run", "--attack", "loss", "--device-map", "tp", "--shard", "1/2")
    check_refused(shard, "--shard", "--device-map tp")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    each = given.attack(tmp_path / "run", "--attack", "loss", "--device-map", "auto")
    check_refused(each, "each of the 2 processes", "--device-map tp")


def test_without_a_gpu_everything_lies_on_the_cpu_and_the_figures_are_those_of_the_plain_run(
    llama: Given, tmp_path: Path
) -> None:
    plain, mapped = (llama.attack(tmp_path / name, "--attack", "loss", *more) for name, more in RUNS.items())
    assert (plain.code, mapped.code) == (0, 0), mapped.err
    one, other = (results(tmp_path / name) for name in RUNS)
    assert other["models"]["teacher"]["device"] == "cpu (--device-map auto)"
    assert one["attacks"] == other["attacks"]
    signals = [sorted(path.name for path in (tmp_path / name).rglob("*.safetensors")) for name in RUNS]
    assert signals[0] == signals[1]


RUNS = {"plain": (), "mapped": ("--device-map", "auto", "--max-memory", "cpu=2GB")}


def test_a_model_that_says_other_things_on_several_devices_is_refused(
    llama: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    own = first_signals

    def second_is_wrong(model: object, *given: object, **options: object) -> object:
        asked.append(model)
        return own(model, *given, **options) - (len(asked) == 2)  # type: ignore[arg-type]

    monkeypatch.setattr("kdaudit.audit.measure.first_signals", second_is_wrong)
    monkeypatch.setattr(Placement, "is_split", property(lambda _: True))
    done = llama.attack(tmp_path / "run", "--attack", "loss", "--device-map", "auto")
    check_refused(done, "teacher", "computes otherwise on several devices", "one in ten differs by 1 nats", code=4)
    assert len(asked) == 2
    assert not [*(tmp_path / "run").rglob("*.safetensors")]


def test_a_model_that_was_not_compared_is_named(llama: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdaudit.audit.plan.room_for_whole", lambda _: None)
    monkeypatch.setattr(Placement, "is_split", property(lambda _: True))
    done = llama.attack(tmp_path / "run", "--attack", "loss", "--device-map", "auto")
    assert done.code == 0, done.err
    assert [one for one in results(tmp_path / "run")["validity"]["warnings"] if "was not compared" in one]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("kept", ["full", pytest.param("reduced", marks=pytest.mark.slow)])
def test_two_processes_that_hold_models_together_find_what_one_finds(llama: Given, tmp_path: Path, kept: str) -> None:
    tied = tiny.config("llama", context=CONTEXT)
    tied.tie_word_embeddings = True
    made = transformers.AutoModelForCausalLM.from_config(tied).eval()
    tiny.teach(made, tiny.tokenizer(), lines())
    made.save_pretrained(tmp_path / "tied")
    tiny.tokenizer().save_pretrained(tmp_path / "tied")
    audited = llama.having(student=tmp_path / "tied")
    assert audited.attack(tmp_path / "plain", *ASKED, "--signals", kept).code == 0
    mapped = ("--signals", kept, "--device-map", "tp", "--out", tmp_path / "together", "--json")
    asked = (*audited.arguments(), *ASKED, *mapped)
    first, second = in_processes(2, asked)
    assert (first.code, second.code) == (0, 0), f"{first.err}{second.err}"
    assert json.loads(first.out) == results(tmp_path / "together")
    assert (second.out, second.err) == ("", ""), "the first process alone says anything"
    one, other = (pd.read_parquet(tmp_path / name / "scores.parquet") for name in ("plain", "together"))
    assert other["score"].to_numpy() == pytest.approx(one["score"].to_numpy(), abs=1e-5)
    assert not np.array_equal(one["score"], other["score"]), "parts of sums are added in another order"
    names = [{path.name for path in (tmp_path / name).rglob("*.safetensors")} for name in ("plain", "together")]
    assert len(names[0]) == len(names[1]) > 0
    assert not names[0] & names[1], "the cache tells them apart"


ASKED = ("--attack", "loss", "--attack", "recall")


def in_processes(n: int, arguments: Sequence[object]) -> list[Done]:
    """`kdaudit attack` in processes that know of each other as those of torchrun do; forked, which spares imports."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pool = multiprocessing.get_context("fork")
    found = pool.Queue()
    started = [pool.Process(target=_attack, args=(k, n, port, arguments, found)) for k in range(n)]
    for process in started:
        process.start()
    try:
        said = dict(found.get(timeout=300) for _ in started)
    finally:
        for process in started:
            process.kill()
    return [said[k] for k in range(n)]


def _attack(rank: int, n: int, port: int, arguments: Sequence[object], found: Any) -> None:
    known = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in known.items()}
    found.put((rank, kdaudit("attack", *arguments)))


def test_a_copy_is_found_when_the_audit_runs_and_its_plan_says_so(given: Given, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in given.teacher.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    audited = given.having(student=copy)
    done = audited.attack(tmp_path / "run", "--attack", "loss", "--plan-only")
    assert done.code == 0, done.err
    assert "is checked when the audit runs" in done.out.replace("\n  ", " ").replace("\n", " ")
    check_refused(audited.attack(tmp_path / "run", "--attack", "loss"), "is the same checkpoint as the teacher")
    twice = given.having(student=given.teacher)
    check_refused(twice.attack(tmp_path / "run", "--attack", "loss", "--plan-only"), "is the same checkpoint")


def test_the_help_names_both_options() -> None:
    done = kdaudit("attack", "--help")
    assert "--device-map" in done.out
    assert "--max-memory" in done.out
