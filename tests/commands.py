"""Whole commands, run in this process, and the checkpoints and texts that they are given."""

from __future__ import annotations

import gc
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from kdaudit.audit import stages, supervision
from kdaudit.cli.main import main
from kdaudit.metrics import thresholds
from kdaudit.mitigate import figures
from kdaudit.views import build
from tests import tiny

CONTEXT = 128  # tokens: two shots fit into half of it
NAMES = ("Zorblax", "Quimbledon", "Vantreska", "Hjulfors", "Okonwe")
"""Words that stand in records alone: none may show up in anything that a command leaves behind."""

FEWER = (
    (thresholds, "threshold_metrics", {"resamples": 200}),
    (supervision, "spearman", {"resamples": 200}),
    (supervision, "excess_slopes", {"resamples": 200}),
    (stages, "blind_baseline", {"repeats": 1}),
    (figures, "place", {"resamples": 200}),
)
"""Where a statistic that takes its time is called, and what it is given there in place of the default."""


@dataclass(frozen=True)
class Done:
    """What a command left on its way out."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Given:
    """What an audit is given; `attack` runs it."""

    teacher: Path
    student: Path
    start: Path
    members: Path
    nonmembers: Path

    def attack(self, out: Path, *options: object) -> Done:
        """`kdaudit attack` on all of this but the start."""
        return kdaudit("attack", *self.arguments(), "--out", out, *options)

    def attack_in_shards(self, out: Path, n_characters: int, *options: object) -> Path:
        """The folder of an audit that nothing stopped, whose texts stand in shards of so many characters."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(build, "SHARD_CHARS", n_characters)
            done = self.attack(out, *options)
        assert done.code == 0, done.err
        return out

    def arguments(self) -> list[str]:
        names = ("teacher", "student", "members", "nonmembers")
        return [part for name in names for part in (f"--{name}", str(getattr(self, name)))]

    def having(self, **changes: Path) -> Given:
        return replace(self, **changes)


def kdaudit(*arguments: object) -> Done:
    """Run the command line in this process: importing torch once is slow enough."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with redirect_stdout(out), redirect_stderr(err), fewer_resamples():
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
    return Done(int(str(code or 0)), out.getvalue(), err.getvalue())


@contextmanager
def fewer_resamples() -> Iterator[None]:
    """Turns down what only sharpens intervals, for time."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, options in FEWER:
            patch.setattr(module, name, partial(getattr(module, name), **options))
        yield


def check_refused(done: Done, *words: str, code: int = 2) -> None:
    """A command ended with one clear error, no traceback, nothing on stdout and no text of a record."""
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    assert done.err.count("error:") == 1, done.err
    assert done.out == ""
    assert not [name for name in NAMES if name in done.err]
    for word in words:
        assert word in done.err, done.err


def texts(n: int, *, seed: int = 0) -> list[str]:
    """Distinct short texts from one distribution, so that nothing but membership tells two halves apart."""
    rng = np.random.default_rng([seed, 77])
    found: dict[str, None] = {}
    while len(found) < n:
        words = [str(word).capitalize() if rng.random() < 0.3 else str(word) for word in rng.choice(tiny.WORDS, 6)]
        words[int(rng.integers(6))] = str(rng.choice(NAMES))
        found[" ".join(words)] = None
    return list(found)


def lines() -> list[str]:
    """What checkpoints learn from, of which no record is: without that they are no language models, and are refused."""
    return [*texts(16, seed=1000), *tiny.texts(8, seed=1000)]


def halves(folder: Path, n: int, *, seed: int = 0) -> tuple[Path, Path]:
    """Files of `n` members and of `n` non-members."""
    made = texts(2 * n, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    members = tiny.write_jsonl(folder / "members.jsonl", made[:n], prefix="m")
    return members, tiny.write_jsonl(folder / "nonmembers.jsonl", made[n:], prefix="n")


def read_texts(path: Path) -> dict[str, str]:
    """Id to text."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {row["id"]: row["text"] for row in rows}


def results(out: Path) -> dict[str, Any]:
    """The content of results.json; NaN and infinity are errors."""

    def refuse(constant: str) -> NoReturn:
        raise AssertionError(constant)

    content: dict[str, Any] = json.loads((out / "results.json").read_text(encoding="utf-8"), parse_constant=refuse)
    return content


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def counted_loads() -> Iterator[list[str]]:
    """Collects the folder of every model whose weights are loaded: without that there is no forward pass."""
    from transformers import AutoModelForCausalLM

    folders: list[str] = []
    original = AutoModelForCausalLM.from_pretrained

    def counting(folder: Any, *args: Any, **options: Any) -> Any:
        folders.append(Path(folder).name)
        return original(folder, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AutoModelForCausalLM, "from_pretrained", counting)
        yield folders


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a tiny checkpoint, each kind once a session: `checkpoint("llama", seed=2)`."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def make(architecture: str = "gpt2", **options: Any) -> Path:
        path = folder / "-".join([architecture, *(f"{key}{value}" for key, value in sorted(options.items()))])
        if not path.exists():
            tiny.save(path, architecture, **{"context": CONTEXT, "lines": lines(), **options})
            gc.collect()
            gc.freeze()  # else the collection after every model looks through all of torch again
        return path

    return make


@pytest.fixture(scope="session")
def given(checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Given:
    """A teacher, a student and a start, and 24 members and 24 non-members that none of them ever saw."""
    members, nonmembers = halves(tmp_path_factory.mktemp("data"), 24)
    return Given(checkpoint(seed=1), checkpoint(seed=2), checkpoint(seed=3), members, nonmembers)


@pytest.fixture(scope="session")
def finished(given: Given, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of loss and reference on `given`; tests may continue it but not change it."""
    out = tmp_path_factory.mktemp("finished") / "run"
    done = given.attack(out, *FINISHED, "--reference", given.start)
    assert done.code == 0, done.err
    return out


FINISHED = ("--attack", "loss", "--attack", "reference")
