"""What only whole processes show: killed by the system, or several that train together, each with a copy or a share."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from kdaudit.cli.docs import pages
from kdaudit.distill import trainer
from tests import encoders, pairs, tiny
from tests.commands import files_in, kdaudit, texts
from tests.distill.several import ENVIRONMENT, FSDP, PYTHON, launch, started, write_commands
from tests.distill.students import manifest_of

pytestmark = pytest.mark.slow  # whole starts of Python; test_killed.py and test_sharding.py stay in this process
CLOSE = 1e-6  # float32 sums in another order, after 18 to 30 steps that move weights by 1e-2
NOT_LEARNT = ("c_attn.bias", "k_proj.bias")  # of keys: no gradient but rounding, which Adam turns into steps
PLAIN: tuple[object, ...] = ("--batch-tokens", "120")
CASES: Mapping[str, tuple[str, tuple[object, ...]]] = {
    "plain": ("llama", PLAIN),
    "tied": ("gpt2", PLAIN),
    "capped": ("gemma2", PLAIN),
    "accumulated": ("llama", (*PLAIN, "--gradient-accumulation", "3")),
    "one-record-a-step": ("llama", ("--batch-tokens", "1", "--limit", "12")),
    "hidden": ("llama", (*PLAIN, "--hidden-weight", "0.5")),
    "lora": ("llama", (*PLAIN, "--lora", "4")),
    "lora-tied": ("gpt2", (*PLAIN, "--lora", "4")),
    "qlora": ("llama", (*PLAIN, "--lora", "4", "--student-load", "4bit")),
    "teacher-8bit": ("llama", (*PLAIN, "--teacher-load", "8bit")),
    "checkpointing": ("llama", (*PLAIN, "--gradient-checkpointing")),
    "cached": ("llama", (*PLAIN, "--teacher-cache", "CACHE", "--teacher-top-k", "16")),
    "written-by-teacher": ("llama", (*PLAIN, "--sequence-level")),
    "copies": ("llama", (*PLAIN, "--keep-epochs")),
    "hard": ("llama", (*PLAIN, "--objective", "hard")),
    "masked": ("bert", (*PLAIN, "--hidden-weight", "0.5")),
    "masked-cached": ("bert", (*PLAIN, "--teacher-cache", "CACHE")),
    "t5": ("t5", PLAIN),
    "bart": ("bart", PLAIN),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Teachers and starts without dropout, whose draws processes do not share, and texts of very uneven lengths."""
    made = tmp_path_factory.mktemp("processes")
    for architecture in {architecture for architecture, _ in CASES.values()}:
        save: Any = {"bert": encoders.save, "t5": pairs.save, "bart": pairs.save}.get(architecture, tiny.save)
        for seed, name in ((1, "teacher"), (2, "start")):
            settings = save(made / f"{architecture}-{name}", architecture, seed=seed) / "config.json"
            plain = {key: 0.0 if "drop" in key else value for key, value in json.loads(settings.read_text()).items()}
            settings.write_text(json.dumps(plain))
    uneven = [" ".join(text.split()[: 1 if i % 3 else 6]) + f" {i}" for i, text in enumerate(texts(60))]
    tiny.write_jsonl(made / "train.jsonl", uneven, prefix="r")
    pairs.write_jsonl(made / "pairs.jsonl", pairs.texts(40, seed=5), prefix="r")
    return made


def command(folder: Path, out: Path, case: str = "plain", *, epochs: int = 3) -> list[str]:
    """`kdaudit distill` for a case."""
    architecture, options = CASES[case]
    teacher, start = (folder / f"{architecture}-{name}" for name in ("teacher", "start"))
    train = folder / ("pairs.jsonl" if architecture in pairs.FAMILIES else "train.jsonl")
    given = {"teacher": teacher, "student": start, "train": train, "out": out, "epochs": epochs}
    cache = out.with_name(f"{out.name}-cache")
    plain = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    filled = [str(cache if part == "CACHE" else part) for part in options]
    return ["distill", *plain, "--teacher-saw", "none", "--lr", "1e-3", "--quiet", *filled]


def alone(folder: Path, out: Path, case: str = "plain", **options: Any) -> Path:
    """The student of one process that nothing disturbed, which tells the loss of every step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "LOG_STEPS", 1)
        done = kdaudit(*command(folder, out, case, **options))
    assert done.code == 0, done.err
    return out


def check_alike(one: Path, other: Path, *, n: int, is_sharded: bool) -> None:
    """The loss of every step, every weight, the utility, and what lies in the folders."""
    first, second = manifest_of(one), manifest_of(other)
    assert second["training"]["is_sharded"] == is_sharded
    assert (first["training"]["processes"], second["training"]["processes"]) == (1, n)
    assert len(first["training"]["losses"]) == first["training"]["steps"]
    assert second["training"]["losses"] == pytest.approx(first["training"]["losses"], abs=2 * CLOSE)
    nll = [{name: found["value"] for name, found in made["utility"]["nll"].items()} for made in (first, second)]
    assert nll[1] == pytest.approx(nll[0], abs=CLOSE)
    assert files_in(one).keys() == files_in(other).keys()
    for path in one.rglob("*.safetensors"):
        assert largest_gap(path, other / path.relative_to(one)) < CLOSE, path


def largest_gap(one: Path, other: Path) -> float:
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first if not name.endswith(NOT_LEARNT))


def cached(out: Path) -> dict[str, bytes]:
    """The files of a teacher's cache, whatever folder it lies in."""
    return {path.name: path.read_bytes() for path in out.with_name(f"{out.name}-cache").rglob("*.safetensors")}


@pytest.mark.parametrize("is_sharded", [True, False], ids=["fsdp", "copies"])
def test_whatever_is_trained_two_processes_learn_what_one_does(folder: Path, tmp_path: Path, is_sharded: bool) -> None:
    done = launch([command(folder, tmp_path / case, case) for case in CASES], tmp_path, is_sharded=is_sharded)
    assert done.returncode == 0, done.stderr
    for case in CASES:
        one = alone(folder, tmp_path / f"one-{case}", case)
        check_alike(one, tmp_path / case, n=2, is_sharded=is_sharded)
        assert cached(one) == cached(tmp_path / case)
    assert done.stderr.count("figure") == 0
    assert done.stdout.count("Held-out utility") == len(CASES)  # told once


def test_the_configuration_of_the_page_trains_under_fsdp(folder: Path, tmp_path: Path) -> None:
    (file,) = re.findall(r"```yaml\n# fsdp.yaml\n(.*?)```", pages()["scale"], re.DOTALL)
    (tmp_path / "fsdp.yaml").write_text(file.replace("num_processes: 8", "num_processes: 2"))
    launcher = ["accelerate.commands.launch", "--config_file", str(tmp_path / "fsdp.yaml"), "--main_process_port", "0"]
    done = started([command(folder, tmp_path / "two")], tmp_path, launcher, {})
    assert done.returncode == 0, done.stderr
    check_alike(alone(folder, tmp_path / "one"), tmp_path / "two", n=2, is_sharded=True)


@pytest.mark.parametrize("is_sharded", [True, False], ids=["fsdp", "copies"])
def test_killed_several_processes_are_continued_by_another_number(
    folder: Path, tmp_path: Path, is_sharded: bool
) -> None:
    one, out = alone(folder, tmp_path / "one"), tmp_path / "several"
    file = write_commands([command(folder, out)], tmp_path)
    start = [*PYTHON, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "tests.distill.several", str(file)]
    environment = {**ENVIRONMENT, **(FSDP if is_sharded else {})}
    with subprocess.Popen(start, env=environment, stderr=subprocess.DEVNULL) as process:
        for _ in range(6000):
            if list(out.glob("training/checkpoint-*/sha256.json")) or process.poll() is not None:
                break
            time.sleep(0.02)
        os.kill(int((tmp_path / "process-1").read_text()), signal.SIGKILL)  # torchrun ends the other one
    assert process.returncode == 1
    assert not (out / "kdaudit.json").exists()
    done = launch([command(folder, out)], tmp_path, n=3, is_sharded=is_sharded)
    assert done.returncode == 0, done.stderr
    check_alike(one, out, n=3, is_sharded=is_sharded)


def test_killed_by_the_system_it_continues_to_the_same_weights(folder: Path, tmp_path: Path) -> None:
    whole, out = alone(folder, tmp_path / "whole"), tmp_path / "student"
    start = [*PYTHON, "-m", "kdaudit", *command(folder, out)]
    with subprocess.Popen(start, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as process:
        for _ in range(3000):
            if list(out.glob("training/checkpoint-*/sha256.json")) or process.poll() is not None:
                break
            time.sleep(0.02)
        process.kill()
    assert not (out / "kdaudit.json").exists()
    done = subprocess.run(start, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert largest_gap(whole / "model.safetensors", out / "model.safetensors") == 0
    assert "lm_head.weight" in load_file(out / "model.safetensors")


def test_an_error_is_told_once(folder: Path, tmp_path: Path) -> None:
    done = launch([[*command(folder, tmp_path / "out"), "--max-tokens", "1000"]], tmp_path)
    assert done.returncode == 1  # of torchrun, which tells the code of the process
    assert done.stderr.count("error: --max-tokens: 1000 is more than") == 1
    assert "exitcode  : 2" in done.stderr
    assert "kdaudit.errors" not in done.stderr
