"""An attack with another parameter gives the score of its definition, and says so wherever it is told of."""

import itertools
import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from pyarrow import parquet

import kdaudit as package
from kdaudit.attacks import ATTACKS, expand, read_settings, write_settings
from kdaudit.attacks.base import Sample
from kdaudit.errors import ConfigError
from kdaudit.signals import store
from kdaudit.signals.tokens import TokenSignals
from kdaudit.views.view import PLAIN
from tests.commands import Given, check_refused, kdaudit, results
from tests.mitigate.test_settings import config as mitigation

TEXT = "the cat sat on the mat"
Rows = list[tuple[float, float, float, float]]
"""Of each token: log-likelihood, mean and deviation of the prediction, and the likelihood of its top choice."""


def lowest(values: list[float], share: float) -> float:
    """The mean of the lowest share."""
    return sum(sorted(values)[: max(1, math.floor(share * len(values)))]) / max(1, math.floor(share * len(values)))


FORMULAS: dict[str, Callable[[Rows, list[float]], float]] = {
    "zlib.level=1": lambda own, _: lowest([row[0] for row in own], 1) / len(zlib.compress(TEXT.encode(), 1)),
    "min-k.fraction=0.5": lambda own, _: lowest([row[0] for row in own], 0.5),
    "min-k++.fraction=0.5": lambda own, _: lowest([(row[0] - row[1]) / row[2] for row in own], 0.5),
    "gap-k.window=2": lambda own, _: lowest_of_pairs([(row[0] - row[3]) / row[2] for row in own]),
    "ez.min-errors=4": lambda own, ref: share_of_gains(own, ref, 4),
    "wbc.windows=2,5": lambda own, ref: (share_of_windows(own, ref, 2) + share_of_windows(own, ref, 5)) / 2,
}


def lowest_of_pairs(gaps: list[float]) -> float:
    """The definition of gap-k with two tokens in a row."""
    pairs = [(one + other) / 2 for one, other in itertools.pairwise(gaps)] or gaps
    return lowest(pairs, 0.2)


def share_of_gains(own: Rows, ref: list[float], fewest: int) -> float:
    gains = [row[0] - other for row, other in zip(own, ref, strict=True) if row[0] < row[3]]
    if len(gains) < fewest:
        return math.nan
    won, lost = sum(g for g in gains if g > 0), sum(-g for g in gains if g < 0)
    return won / (won + lost) if won + lost else float(sum(row[0] for row in own) > sum(ref))


def share_of_windows(own: Rows, ref: list[float], length: int) -> float:
    gains = [row[0] - other for row, other in zip(own, ref, strict=True)]
    length = min(length, len(gains))
    starts = range(len(gains) - length + 1)
    return sum(sum(gains[k : k + length]) > 0 for k in starts) / len(starts)


quarters = st.integers(-12, 0).map(lambda quarter: quarter / 4)
tokens = st.tuples(quarters, st.just(-2.0), st.sampled_from([0.5, 1.0, 2.0]), st.just(-0.25), quarters)


def signals_of(rows: Rows) -> TokenSignals:
    logprob, mean, std, top = (np.array(column, np.float32) for column in zip(*rows, strict=True))
    return TokenSignals(logprob, mean, std, top, np.arange(1, len(rows) + 1, dtype=np.int32), 0)


@pytest.mark.parametrize("setting", FORMULAS)
@for_all(rows=st.lists(tokens, min_size=1, max_size=40))
def test_another_parameter_gives_the_score_of_the_definition(
    setting: str, rows: list[tuple[float, float, float, float, float]]
) -> None:
    own, ref = [row[:4] for row in rows], [row[4] for row in rows]
    other = signals_of([(row[4], *row[1:4]) for row in rows])
    ((attack, _),) = expand([setting.partition(".")[0]], [setting])
    found = attack.score(Sample(TEXT, {PLAIN: signals_of(own)}, reference=other))
    assert found == pytest.approx(FORMULAS[setting](own, ref), abs=1e-5, nan_ok=True)


def test_every_parameter_of_every_attack_is_tried_above_or_shares_its_code() -> None:
    all_of_them = {f"{name}.{one.name}" for name, attack in ATTACKS.items() for one in attack.parameters}
    assert all_of_them - {setting.partition("=")[0] for setting in FORMULAS} == {"gap-k.fraction"}


def test_settings_are_written_in_one_way_and_those_that_hold_the_default_are_none() -> None:
    texts = ["wbc.windows = 2,3", "min-k.fraction=0.10", "min-k++.fraction=.2", "gap-k.window=5", "gap-k.fraction=1"]
    written = write_settings(read_settings(texts))
    assert written == ("min-k.fraction=0.1", "gap-k.fraction=1", "gap-k.window=5", "wbc.windows=2,3")
    assert write_settings(read_settings(written)) == written


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("min-k.fraction=0", "lies outside 0 to 1"),
        ("min-k.fraction=nan", "not a finite number"),
        ("min-k.fraction=a", "is not a number"),
        ("min-k.fraction=", "form ATTACK.PARAMETER=VALUE"),
        ("fraction=0.1", "form ATTACK.PARAMETER=VALUE"),
        ("min-k.fractoin=0.1", "did you mean 'fraction'"),
        ("mink.fraction=0.1", "did you mean 'min-k'"),
        ("wbc.windows=2,0", "0 lies outside 1 to"),
        ("wbc.windows=2,,3", "whole numbers, joined by commas"),
        ("ez.min-errors=1.5", "is not a whole number"),
        ("recall.shots=5", "--n-shots"),
        ("loss.fraction=0.1", "loss has no parameter"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_the_way_out(setting: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_settings([setting])
    assert words in f"{error.value} {error.value.hint}"


def test_a_setting_that_nothing_would_read_and_one_that_is_given_twice_are_refused(
    given: Given, tmp_path: Path
) -> None:
    done = given.attack(tmp_path / "run", "--attack", "loss", "--set", "min-k.fraction=0.1")
    check_refused(done, "min-k is not among the attacks of this run", "--attack min-k")
    twice = ("--set", "min-k.fraction=0.1", "--set", "min-k.fraction=0.3")
    check_refused(given.attack(tmp_path / "run", *twice), "--set min-k.fraction", "given twice")
    with pytest.raises(ConfigError, match="zlib is not among the attacks of a comparison"):
        mitigation(settings=("zlib.level=1",))


def test_a_run_with_settings_records_them_everywhere_and_is_not_continued_with_others(
    given: Given, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    (tmp_path / "kdaudit.toml").write_text('set = ["min-k.fraction = 0.50"]\n')
    options = ("--attack", "min-k,min-k++", "--paper-compat", "--reference", given.start)
    done = given.attack(out, *options, "--config", tmp_path / "kdaudit.toml")
    assert done.code == 0, done.err
    assert "min-k with fraction 0.5" in done.err
    found = results(out)
    assert found["config"]["settings"] == ["min-k.fraction=0.5"]
    assert found["attacks"]["min-k"]["settings"] == {"fraction": 0.5}
    assert "settings" not in found["attacks"]["min-k++"]
    metadata = json.loads(parquet.read_schema(out / "scores.parquet").metadata[b"kdaudit.attacks"])
    assert metadata == {"min-k": {"version": 1, "fraction": 0.5}, "min-k++": {"version": 1, "fraction": 0.2}}

    scores = parquet.read_table(out / "scores.parquet").to_pandas()
    own = scores[(scores.attack == "min-k") & (scores.model == "teacher")].score
    signals = [one for path in sorted((out / "signals").rglob("*.safetensors")) for one in store.read(path) or ()]
    expected = {round(float(np.mean(np.sort(one.logprob)[: max(1, one.logprob.size // 2)])), 4) for one in signals}
    assert {round(value, 4) for value in own} <= expected

    with_default = given.attack(tmp_path / "plain", *options)
    assert with_default.code == 0, with_default.err
    plain = results(tmp_path / "plain")
    for name in ("min-k", "min-k++"):
        papers = [run["attacks"][name]["teacher"]["paper_compat"] for run in (found, plain)]
        assert papers[0] == papers[1], "the paper's figures keep the paper's fractions"
    alone = [run["validity"]["reference_alone"]["student"]["min-k"] for run in (found, plain)]
    assert alone[0] != alone[1], "a start is attacked as its model is"

    check_refused(given.attack(out, *options), "settings was min-k.fraction=0.5 and is now not given")
    assert given.attack(out, *options, "--set", "min-k.fraction=0.5", "--set", "min-k++.fraction=0.2").code == 0
    assert kdaudit("report", out, "--format", "md,csv").code == 0
    told = "min-k: fraction 0.5 in the place of 0.2; mean log-likelihood of the least likely 50 % of the tokens"
    assert told in (out / "report.md").read_text()
    assert ",settings,min-k,,fraction,0.5" in (out / "report.csv").read_text()
    assert package.load_results(out).attacks["min-k"].settings == {"fraction": 0.5}
    baseline = kdaudit("report", tmp_path / "plain", "--baseline", out, "--format", "json")
    assert baseline.code == 3, baseline.err
    assert "other settings of the attack (--set)" in (tmp_path / "plain" / "report.json").read_text()
