"""Whether members and non-members differ without any model: shared passages, and classifiers that see only texts.

Where they do, an attack's score can come from the texts instead of the training, and no verdict stands.
Source: Duan et al. 2024, arXiv:2402.07841 (overlap); Das et al. 2024, arXiv:2406.16201 (blind baselines).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kdaudit.metrics.auc import auc_estimate, with_interval
from kdaudit.metrics.estimate import Estimate
from kdaudit.metrics.scores import Floats, Integers
from kdaudit.metrics.texts import passages_of, words
from kdaudit.metrics.traits import character_counts, character_features, oddity

BUCKETS = 2**16  # hashed words and pairs: no vocabulary in memory; 2**18 finds no more and takes three times as long
FOLDS = 5  # parts of the cross-validation
CLASSIFIERS = ("tfidf", "surface", "characters", "traits")
MAX_ITERATIONS = 1000  # L-BFGS converges in about 10 on TF-IDF and 50 on the surface features

YEAR = re.compile(r"(?<!\d)(?:1[5-9]|20)\d\d(?!\d)")  # 1500 to 2099


@dataclass(frozen=True, slots=True)
class BlindBaseline:
    """The strongest of several classifiers that tell members from non-members by their texts alone."""

    name: str
    auc: Estimate
    """The AUC of the strongest one; `value` is None where too few records are there to cross-validate."""
    by_name: Mapping[str, Estimate]
    scores_members: Floats
    """(n,), out-of-fold ranks of the strongest one in (0, 1), averaged over repeats; NaN without a value."""
    scores_nonmembers: Floats
    """(m,), likewise."""


def near_duplicate_groups(texts: Sequence[str], *, n: int = 13) -> Integers:
    """Number the groups of texts that are linked by sharing a passage of `n` words.

    Returns:
        (len(texts),), the group of each text, from 0; a text of fewer than n words is linked to those with
        exactly its words.
    """
    if not texts:
        return np.empty(0, dtype=np.intp)
    passages = [np.unique(passages_of(text, n)) for text in texts]
    owner = np.repeat(np.arange(len(texts), dtype=np.int32), [each.size for each in passages])
    hashes = np.concatenate(passages)
    order = np.argsort(hashes, kind="stable")
    hashes, owner = hashes[order], owner[order]
    is_same = hashes[1:] == hashes[:-1]
    links = coo_array(
        (np.ones(np.count_nonzero(is_same), dtype=np.int32), (owner[:-1][is_same], owner[1:][is_same])),
        shape=(len(texts), len(texts)),
    )
    return np.asarray(connected_components(links.tocsr(), directed=False)[1], dtype=np.intp)


def blind_baseline(
    members: Sequence[str], nonmembers: Sequence[str], *, rng: np.random.Generator, folds: int = FOLDS, repeats: int = 3
) -> BlindBaseline:
    """Tell members from non-members by their texts alone, cross-validated.

    `tfidf`: TF-IDF of words and word pairs; `surface`: lengths, digits, years, case and punctuation; `characters`:
    TF-IDF of runs of up to three characters, white space as it stands; `traits`: each kind of white space and mark,
    sizes, and what is rare, misspelt or out of order. All are logistic regressions: on the traits boosted trees find
    no more and take six times as long. Near-duplicates stay in one fold. Out-of-fold scores become ranks within their
    fold, since the folds' classifiers have different scales, and are averaged over the repeats. The AUCs have 95 %
    intervals, so each bound holds at level 0.975; a family of bounds over the k classifiers takes 1 - 0.05 / k.

    Args:
        members: n texts.
        nonmembers: m texts.
        rng: the only source of randomness; the same seed gives the same scores.
        folds: parts that each take a turn as the test part.
        repeats: times that the texts are dealt into folds anew.
    """
    texts = [*members, *nonmembers]
    is_member = np.arange(len(texts)) < len(members)
    groups = _foldable(near_duplicate_groups(texts), folds)
    if min(np.unique(groups[is_member]).size, np.unique(groups[~is_member]).size) < folds:
        return _not_measured(len(members), len(nonmembers), f"fewer than {folds} distinct texts in a class")
    # Trained on float32 counts: float64 or liblinear's own copy would double the memory of a large run.
    inputs: dict[str, tuple[Callable[[Sequence[str]], Any], Any]] = {
        "tfidf": (_word_counts, TfidfTransformer(sublinear_tf=True)),
        "surface": (surface_features, StandardScaler()),
        "characters": (character_counts, TfidfTransformer(sublinear_tf=True)),
        "traits": (lambda texts: np.hstack([character_features(texts), oddity(texts)]), StandardScaler()),
    }
    dealt = [_deal(is_member, groups, folds, rng) for _ in range(repeats)]
    scores = {name: np.zeros(len(texts)) for name in inputs}
    for name, (features_of, scaling) in inputs.items():  # one after the other: what they see of the texts is large
        features = features_of(texts)
        for fold in dealt:
            scores[name] += _ranks_out_of_fold(features, scaling, is_member, fold) / repeats
        del features
    by_name = {
        name: _widened(auc_estimate(ranks[is_member], ranks[~is_member]), folds) for name, ranks in scores.items()
    }
    strongest = max(by_name, key=lambda name: _or_below_all(by_name[name].value))
    ranks = scores[strongest]
    return BlindBaseline(strongest, by_name[strongest], by_name, ranks[is_member], ranks[~is_member])


def surface_features(texts: Sequence[str]) -> Floats:
    """What a text looks like, whatever its words mean.

    Returns:
        (len(texts), 13): log(1 + count) of characters, words, digits, years and lines; characters per word;
        shares of digits, upper case, punctuation and non-ASCII among the characters; the years' span and mean
        as years since 2000 (0 where there is none).
    """
    return np.array([_surface(text) for text in texts], dtype=np.float64).reshape(len(texts), 13)


def _surface(text: str) -> list[float]:
    n_chars, n_words = max(len(text), 1), len(words(text))
    of_char = Counter(text)
    n_digits = sum(count for char, count in of_char.items() if char.isdigit())
    years = [int(year) - 2000 for year in YEAR.findall(text)] or [0]
    counts = np.log1p([len(text), n_words, n_digits, len(YEAR.findall(text)), text.count("\n")])
    shares = [
        n_digits / n_chars,
        sum(count for char, count in of_char.items() if char.isupper()) / n_chars,
        sum(count for char, count in of_char.items() if not (char.isalnum() or char.isspace())) / n_chars,
        sum(count for char, count in of_char.items() if not char.isascii()) / n_chars,
    ]
    return [*counts, n_chars / max(n_words, 1), *shares, min(years), max(years), sum(years) / len(years)]


def _or_below_all(value: float | None) -> float:
    return -1.0 if value is None else value


def _widened(estimate: Estimate, folds: int) -> Estimate:
    """The estimate with DeLong's variance times 1 + k / (k - 1), 2.25 for five folds.

    Out-of-fold scores depend on each other through the labels that their classifiers were trained on. DeLong
    takes them as independent: without any shift its errors are 1.3 to 1.5 times too small (simulated on news
    texts, 60 to 2000 a class), and a harmless split of 50 + 50 texts would fail in 8 % of audits.

    Source: Nadeau and Bengio 2003, the corrected variance of resampled tests.
    """
    if estimate.value is None or estimate.logit_value is None or estimate.logit_se is None:
        return estimate
    se = estimate.logit_se * math.sqrt(1 + training_variance(folds))
    method = f"{estimate.method}, variance corrected for cross-validation"
    return with_interval(replace(estimate, logit_se=se, method=method))


def training_variance(folds: int) -> float:
    """What training adds to the variance of a cross-validated AUC, as a multiple of DeLong's: k / (k - 1)."""
    return folds / (folds - 1)


def _word_counts(texts: Sequence[str]) -> Any:
    hashing = HashingVectorizer(
        tokenizer=words,
        token_pattern=None,
        lowercase=False,
        ngram_range=(1, 2),
        n_features=BUCKETS,
        alternate_sign=False,
        norm=None,
        dtype=np.float32,
    )
    counts = hashing.transform(texts)
    return counts[:, np.unique(counts.indices)]  # L-BFGS keeps dense vectors of every column's coefficient


def _ranks_out_of_fold(features: Any, scaling: Any, is_member: NDArray[np.bool_], fold: Integers) -> Floats:
    """(N,), each text's rank in (0, 1) within its fold, scored by a classifier that was fitted without that fold."""
    classifier = make_pipeline(scaling, LogisticRegression(max_iter=MAX_ITERATIONS))
    scores = cross_val_predict(classifier, features, is_member, cv=PredefinedSplit(fold), method="decision_function")
    ranks = np.empty(fold.size)
    for k in np.unique(fold):
        ranks[fold == k] = (rankdata(scores[fold == k]) - 0.5) / np.count_nonzero(fold == k)
    return ranks


def _deal(is_member: NDArray[np.bool_], groups: Integers, folds: int, rng: np.random.Generator) -> Integers:
    """(N,), the fold of each text: groups of one make-up and size are shuffled and dealt round in turn.

    scikit-learn's StratifiedGroupKFold does it group by group in Python: minutes for 100,000 texts.
    """
    size = np.bincount(groups)
    n_members = np.bincount(groups, weights=is_member)
    make_up = np.where(n_members == 0, 2, np.where(n_members == size, 1, 0))  # mixed, members, non-members
    order = np.lexsort((rng.random(size.size), -size, make_up))
    fold_of_group = np.empty(size.size, dtype=np.intp)
    fold_of_group[order] = np.arange(size.size) % folds
    return fold_of_group[groups]


def _foldable(groups: Integers, folds: int) -> Integers:
    """Break up groups that do not fit into a fold: boilerplate, not duplication.

    That can only raise the blind AUC, which is the safe side.
    """
    is_too_large = np.bincount(groups)[groups] > groups.size / folds
    alone = np.arange(groups.size) + groups.size
    return np.unique(np.where(is_too_large, alone, groups), return_inverse=True)[1]


def _not_measured(n: int, m: int, reason: str) -> BlindBaseline:
    missing = Estimate(None, n=n, m=m, reason=reason)
    by_name = dict.fromkeys(CLASSIFIERS, missing)
    return BlindBaseline("tfidf", missing, by_name, np.full(n, np.nan), np.full(m, np.nan))
