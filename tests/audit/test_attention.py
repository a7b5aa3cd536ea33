"""How attention is computed: chosen by --attention, refused where it cannot be, and told apart in the cache."""

from pathlib import Path

import pandas as pd
import pytest

from tests.commands import Given, check_refused


def test_another_attention_gives_the_same_scores_and_its_own_signals(given: Given, tmp_path: Path) -> None:
    runs = {"default": (), "eager": ("--attention", "eager")}
    for name, more in runs.items():
        done = given.attack(tmp_path / name, "--attack", "loss", *more)
        assert done.code == 0, done.err
    one, other = (pd.read_parquet(tmp_path / name / "scores.parquet") for name in runs)
    assert other["score"].to_numpy() == pytest.approx(one["score"].to_numpy(), abs=1e-4)
    names = [{path.name for path in (tmp_path / name).rglob("*.safetensors")} for name in runs]
    assert not names[0] & names[1]
    check_refused(given.attack(tmp_path / "eager", "--attack", "loss"), "attention was eager")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("flash_attention_2",), ("does not compute in float32", "bfloat16")),
        (("flash_attention_2", "--dtype", "bfloat16"), ("needs a GPU and the package flash-attn", "sdpa")),
        (("flash_attention_3", "--dtype", "bfloat16"), ("needs a GPU and the package flash-attn-3",)),
        (("paged",), ("eager, sdpa, flash_attention_2",)),
    ],
)
def test_attention_that_cannot_be_computed_here_is_refused(
    given: Given, tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    done = given.attack(tmp_path / "run", "--attack", "loss", "--attention", *options)
    check_refused(done, "--attention", *words)
