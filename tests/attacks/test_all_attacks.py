"""What holds for every attack in the table."""

import math
import pkgutil
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

import kdaudit.attacks as package
from kdaudit.attacks import ATTACKS, GROUPS, expand, get_attack
from kdaudit.attacks.base import Attack, Sample
from kdaudit.attacks.lowercase import LOWERCASED
from kdaudit.attacks.recall import PREFIXED
from kdaudit.errors import ConfigError
from kdaudit.signals.tokens import TokenSignals
from kdaudit.views.view import PLAIN

TEXT = "A Fictitious Note."
EVERY_ATTACK = pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))


def tokens(logprob: Sequence[float], *, top: float = -0.05) -> TokenSignals:
    """Signals of tokens of three bytes each, under predictions of mean -2 and deviation 1 (both nats)."""
    size = len(logprob)
    return TokenSignals(
        np.array(logprob, np.float32),
        np.full(size, -2, np.float32),
        np.full(size, 1, np.float32),
        np.full(size, top, np.float32),
        np.arange(3, 3 * size + 1, 3, dtype=np.int32),
        0,
    )


def sample(logprob: Sequence[float]) -> Sample:
    """A record whose other views and whose reference are those of a text that nobody memorised."""
    unseen = tokens([-2.0] * len(logprob))
    # The shots cost a fixed half nat per token: little beside an unseen text's loss, much beside a member's.
    prefixed = tokens([value - 0.5 for value in logprob])
    return Sample(TEXT, {PLAIN: tokens(logprob), LOWERCASED: unseen, PREFIXED: prefixed}, reference=unseen)


@EVERY_ATTACK
def test_a_memorised_text_scores_above_an_unseen_one(attack: Attack) -> None:
    assert attack.score(sample([-0.1] * 12)) > attack.score(sample([-3.0] * 12))


@EVERY_ATTACK
def test_a_partly_memorised_text_scores_between(attack: Attack) -> None:
    memorised, partly, unseen = (
        attack.score(sample(logprob)) for logprob in ([-0.1] * 12, [-3.0, -0.1] * 6, [-3.0] * 12)
    )
    assert memorised >= partly >= unseen


@EVERY_ATTACK
def test_a_text_with_no_scored_token_is_not_scored(attack: Attack) -> None:
    assert math.isnan(attack.score(sample([])))


@EVERY_ATTACK
def test_one_token_is_enough_but_for_ez(attack: Attack) -> None:
    assert math.isfinite(attack.score(sample([-1.5]))) == (attack.name != "ez")


@EVERY_ATTACK
@pytest.mark.parametrize("position", [0, 5, 11])
def test_a_nan_likelihood_is_not_scored(attack: Attack, position: int) -> None:
    logprob = [-1.0] * 12
    logprob[position] = math.nan
    broken, whole = sample(logprob), sample([-1.0] * 12)
    assert math.isnan(attack.score(broken))
    for view in attack.views:
        target = {**whole.target, view: broken.target[PLAIN]}
        assert math.isnan(attack.score(replace(whole, target=target)))


@pytest.mark.parametrize(
    ("name", "is_same_tokenizer"), [("reference", True), ("reference", False), ("ez", True), ("wbc", True)]
)
def test_a_nan_in_the_reference_is_not_scored(name: str, is_same_tokenizer: bool) -> None:
    reference = tokens([-1.0] * 5 + [math.nan] + [-1.0] * 6)
    broken = replace(sample([-1.0] * 12), reference=reference, is_same_tokenizer=is_same_tokenizer)
    assert math.isnan(get_attack(name).score(broken))


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("min-k++", "logprob_mean"),
        ("min-k++", "logprob_std"),
        ("gap-k", "logprob_std"),
        ("gap-k", "logprob_top"),
        ("ez", "logprob_top"),
    ],
)
def test_a_nan_in_any_signal_that_an_attack_reads_is_not_scored(name: str, field: str) -> None:
    whole = sample([-1.0] * 12)
    values = np.array(getattr(whole.target[PLAIN], field))
    values[7] = math.nan
    plain = replace(whole.target[PLAIN], **{field: values})  # type: ignore[arg-type]  # a float field
    assert math.isnan(get_attack(name).score(replace(whole, target={**whole.target, PLAIN: plain})))


@pytest.mark.parametrize("name", ["min-k++", "gap-k"])
def test_a_nan_likelihood_under_a_flat_prediction_is_not_scored(name: str) -> None:
    plain = replace(tokens([-1.0, math.nan, -1.0]), logprob_std=np.zeros(3, np.float32))
    assert math.isnan(get_attack(name).score(Sample(TEXT, {PLAIN: plain})))


@EVERY_ATTACK
def test_an_infinite_likelihood_is_not_scored(attack: Attack) -> None:
    assert math.isnan(attack.score(sample([-1.0, -math.inf, -1.0])))


@EVERY_ATTACK
def test_scoring_changes_no_signal(attack: Attack) -> None:
    once = sample([-3.0, -0.1, -2.0, -1.0] * 3)
    first = attack.score(once)
    assert attack.score(once) == first == attack.score(sample([-3.0, -0.1, -2.0, -1.0] * 3))


def test_every_attack_file_is_in_the_table() -> None:
    files = {module.name for module in pkgutil.iter_modules(package.__path__)} - {"base", "settings"}
    assert {name.replace("++", "-plus-plus").replace("-", "_") for name in ATTACKS} == files


def test_every_attack_says_what_it_is_and_where_it_comes_from() -> None:
    assert all(
        name == attack.name and attack.summary and attack.source and attack.idea for name, attack in ATTACKS.items()
    )
    assert all(attack.needs_reference for attack in ATTACKS.values() if attack.needs_same_tokenizer)


def test_reports_list_the_attacks_in_the_agreed_order() -> None:
    assert list(ATTACKS) == [
        "loss",
        "zlib",
        "reference",
        "min-k",
        "min-k++",
        "recall",
        "gap-k",
        "ez",
        "wbc",
        "lowercase",
    ]
    assert GROUPS["paper"] == tuple(ATTACKS)[:6]
    assert GROUPS["all"] == tuple(ATTACKS)


def names_of(*names: str) -> dict[str, bool]:
    return {attack.name: is_requested for attack, is_requested in expand(names)}


def test_no_names_mean_the_papers_six_none_of_them_asked_for_by_name() -> None:
    assert names_of() == dict.fromkeys(GROUPS["paper"], False)


def test_names_come_back_in_report_order_and_once() -> None:
    assert list(names_of("wbc", "loss", "wbc").items()) == [("loss", True), ("wbc", True)]


def test_an_attack_asked_for_by_name_and_by_group_counts_as_by_name() -> None:
    expected = {name: name == "min-k" for name in GROUPS["paper"]} | {"ez": True}
    assert names_of("paper", "min-k", "ez") == expected
    assert names_of("min-k", "all")["min-k"]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("min_k", "min-k"),
        ("LOSS", "loss"),
        ("refrence", "reference"),
        ("papers", "paper"),
        ("", "wbc"),
        ("minkpp", "'min-k++'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_ones(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown attack '{name}'") as error:
        expand([name])
    assert near in error.value.hint


def test_a_group_is_no_attack() -> None:
    with pytest.raises(ConfigError, match="unknown attack 'paper'"):
        get_attack("paper")
