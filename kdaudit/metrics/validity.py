"""Whether members and non-members differ without any model: shared passages, and classifiers that see only texts.

Where they do, an attack's score can come from the texts instead of the training, and no verdict stands.
Source: Duan et al. 2024, arXiv:2402.07841 (overlap); Das et al. 2024, arXiv:2406.16201 (blind baselines).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, issparse
from scipy.sparse.csgraph import connected_components

from kdaudit.metrics.auc import auc_estimate, with_interval
from kdaudit.metrics.estimate import Estimate
from kdaudit.metrics.scores import Floats, Integers
from kdaudit.metrics.texts import passages, words
from kdaudit.metrics.traits import character_counts, character_features, oddity

BUCKETS = 2**16  # hashed words and pairs: no vocabulary in memory; 2**18 finds no more and takes three times as long
FOLDS = 5  # parts of the cross-validation
BLOCK = 20_000  # records that are looked at together: more than the classifiers learn from would find little more
CLASSIFIERS = ("tfidf", "surface", "characters", "traits")
MAX_ITERATIONS = 1000  # L-BFGS converges in about 10 on TF-IDF and 50 on the surface features

PASSAGE = 13  # words of a passage by which near-duplicates are known
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
    n_learnt: int | None = None
    """How many records the classifiers learnt from, where these are not all."""


def near_duplicate_groups(texts: Sequence[str], *, n: int = PASSAGE) -> Integers:
    """Number the groups of texts that are linked by sharing a passage of `n` words.

    Returns:
        (len(texts),), the group of each text, from 0; a text of fewer than n words is linked to those with
        exactly its words.
    """
    return _Linked.of(texts, n).groups


@dataclass(frozen=True, slots=True)
class _Linked:
    """Texts grouped by their passages, and the passages by which others may be linked to them."""

    groups: Integers
    """(n,), of each text, from 0."""
    known: NDArray[np.uint64]
    """(T,), hashes of their passages, rising, each once."""
    group_of_known: Integers
    """(T,): all texts with one passage are in one group."""

    @classmethod
    def of(cls, texts: Sequence[str], n: int = PASSAGE) -> _Linked:
        if not texts:
            return cls(np.empty(0, dtype=np.intp), np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.intp))
        hashes, owner = (
            np.concatenate(parts)
            for parts in zip(
                *((one.hashes, (one.start + one.owner).astype(np.int32)) for one in passages(texts, n)), strict=True
            )
        )
        order = np.argsort(hashes, kind="stable")
        hashes, owner = hashes[order], owner[order]
        is_same = hashes[1:] == hashes[:-1]
        groups = _components(owner[:-1][is_same], owner[1:][is_same], len(texts))
        is_first = np.append(True, ~is_same)
        return cls(groups, hashes[is_first], groups[owner[is_first]])

    def joined(self, others: Iterable[Sequence[str]], n: int = PASSAGE) -> tuple[Integers, list[Integers]]:
        """Link further texts to these.

        Returns:
            (n,), the groups of these texts, where a further text makes two groups one; and for every sequence of
            further texts the group of each, -1 where it shares no passage.
        """
        merged = np.arange(self.groups.max(initial=-1) + 1)
        found = []
        for texts in others:
            first = np.full(len(texts), -1)
            for some in passages(texts, n):
                place = np.minimum(np.searchsorted(self.known, some.hashes), self.known.size - 1)
                is_hit = self.known[place] == some.hashes
                owner, group = some.owner[is_hit], self.group_of_known[place[is_hit]]
                own = first[some.start : some.start + some.n_words.size]
                own[owner] = group
                is_link = merged[own[owner]] != merged[group]
                if is_link.any():
                    merged = _components(merged[own[owner]][is_link], merged[group][is_link], merged.size)[merged]
            found.append(first)
        return merged[self.groups], [np.where(first < 0, -1, merged[first]) for first in found]


def _components(one: NDArray[Any], other: NDArray[Any], n: int) -> Integers:
    """(n,), the connected component of each of n nodes, from 0, each of `one` linked to its place in `other`."""
    links = coo_array((np.ones(one.size, dtype=np.int32), (one, other)), shape=(n, n))
    return np.asarray(connected_components(links.tocsr(), directed=False)[1], dtype=np.intp)


def blind_baseline(
    members: Sequence[str],
    nonmembers: Sequence[str],
    *,
    rng: np.random.Generator,
    folds: int = FOLDS,
    repeats: int = 3,
    block: int = BLOCK,
) -> BlindBaseline:
    """Tell members from non-members by their texts alone, cross-validated.

    `tfidf`: TF-IDF of words and word pairs; `surface`: lengths, digits, years, case and punctuation; `characters`:
    TF-IDF of runs of up to three characters, white space as it stands; `traits`: each kind of white space and mark,
    sizes, and what is rare, misspelt or out of order. All are logistic regressions: on the traits boosted trees find
    no more and take six times as long. Near-duplicates stay in one fold. Out-of-fold scores become ranks within their
    fold, since the folds' classifiers have different scales, and are averaged over the repeats. The AUCs have 95 %
    intervals, so each bound holds at level 0.975; a family of bounds over the k classifiers takes 1 - 0.05 / k.

    With more than `block` texts the classifiers learn from a part that is drawn at random, and score all. The texts are
    dealt into blocks that are alike in size and make-up. The first one is cross-validated as above; every other text
    is dealt into a fold too and scored by the classifier that was fitted without that fold of the first block. A text
    that shares a passage with one of the first block is in its fold, and makes groups that it links one group: no
    near-duplicate of a text teaches the classifier that scores it. What a text is like among others is measured within
    its block. Memory then does not grow with the texts, apart from some numbers for each.

    Args:
        members: n texts; those of one block are held at one time.
        nonmembers: m texts.
        rng: the only source of randomness; the same seed gives the same scores.
        folds: parts that each take a turn as the test part.
        repeats: times that the texts are dealt into folds anew.
        block: texts that are looked at together, at most.
    """
    from sklearn.feature_extraction.text import TfidfTransformer  # a second that no forward pass should wait for
    from sklearn.preprocessing import StandardScaler

    n, m = len(members), len(nonmembers)
    is_member = np.arange(n + m) < n
    learnt, *others = _blocks(n, m, block, rng)

    def texts_of(some: Integers) -> list[str]:
        return [members[i] if i < n else nonmembers[i - n] for i in some.tolist()]

    joined, of_others = _Linked.of(texts_of(learnt)).joined(map(texts_of, others))
    groups = _foldable(joined, folds)
    if min(np.unique(groups[of_class]).size for of_class in (is_member[learnt], ~is_member[learnt])) < folds:
        among = f" of the {learnt.size} records to learn from" if others else ""
        return _not_measured(n, m, f"fewer than {folds} distinct texts in a class{among}")
    group_of = np.full(n + m, ALONE)
    group_of[learnt] = groups
    for some, linked in zip(others, of_others, strict=True):
        group_of[some] = _folded(linked, joined, groups, folds)
    dealt = [_deal(is_member[learnt], groups, folds, rng) for _ in range(repeats)]
    fold_of = [_deal_all(is_member, learnt, group_of, fold, rng) for fold in dealt]
    # Trained on float32 counts: float64 or liblinear's own copy would double the memory of a large run.
    inputs: dict[str, tuple[Callable[[Sequence[str]], Any], Any]] = {
        "tfidf": (_word_counts, TfidfTransformer(sublinear_tf=True)),
        "surface": (surface_features, StandardScaler()),
        "characters": (character_counts, TfidfTransformer(sublinear_tf=True)),
        "traits": (lambda texts: np.hstack([character_features(texts), oddity(texts)]), StandardScaler()),
    }
    ranks = {}
    for name, (features_of, scaling) in inputs.items():  # one after the other: what they see of the texts is large
        blocks = ((some, features_of(texts_of(some))) for some in (learnt, *others))
        ranks[name] = _mean_ranks(blocks, scaling, is_member, fold_of)
    by_name = {
        name: _widened(auc_estimate(found[is_member], found[~is_member]), folds) for name, found in ranks.items()
    }
    strongest = max(by_name, key=lambda name: _or_below_all(by_name[name].value))
    found = ranks[strongest]
    n_learnt = learnt.size if others else None
    return BlindBaseline(strongest, by_name[strongest], by_name, found[is_member], found[~is_member], n_learnt)


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
    from sklearn.feature_extraction.text import HashingVectorizer

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
    return hashing.transform(texts)


def _mean_ranks(
    blocks: Iterator[tuple[Integers, Any]], scaling: Any, is_member: NDArray[np.bool_], fold_of: Sequence[Integers]
) -> Floats:
    """(N,), each text's rank in (0, 1) within its fold, scored without it, averaged over the ways to deal the folds.

    Args:
        blocks: places of some texts, (b,), and their features, (b, d); the classifiers learn from the first block.
        scaling: what stands before the regression.
        is_member: (N,).
        fold_of: (N,) each, the folds of all texts.
    """
    learnt, first = next(blocks)
    is_sparse: bool = issparse(first)
    kept = np.unique(first.indices) if is_sparse else slice(None)  # L-BFGS keeps vectors of all columns
    first = first[:, kept]
    fitted = [_fit(first, scaling, is_member[learnt], fold[learnt]) for fold in fold_of]
    scores = np.empty((len(fold_of), is_member.size))
    for some, features in chain([(learnt, first)], ((some, whole[:, kept]) for some, whole in blocks)):
        for row, fold, by_fold in zip(scores, fold_of, fitted, strict=True):
            for k, classifier in by_fold.items():
                is_scored = np.flatnonzero(fold[some] == k)
                if is_scored.size:
                    row[some[is_scored]] = classifier.decision_function(features[is_scored])
    mean = np.zeros(is_member.size)
    for row, fold in zip(scores, fold_of, strict=True):
        mean += _ranks_in_fold(row, fold) / len(fold_of)
    return mean


def _fit(features: Any, scaling: Any, is_member: NDArray[np.bool_], fold: Integers) -> dict[int, Any]:
    """By fold, the classifier that was fitted without it."""
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    classifier = make_pipeline(scaling, LogisticRegression(max_iter=MAX_ITERATIONS))
    return {
        int(k): clone(classifier).fit(features[np.flatnonzero(fold != k)], is_member[fold != k])
        for k in np.unique(fold)
    }


def _ranks_in_fold(scores: Floats, fold: Integers) -> Floats:
    """(N,), each text's rank in (0, 1) within its fold."""
    from scipy.stats import rankdata

    ranks = np.empty(fold.size)
    for k in np.unique(fold):
        ranks[fold == k] = (rankdata(scores[fold == k]) - 0.5) / np.count_nonzero(fold == k)
    return ranks


def _blocks(n: int, m: int, size: int, rng: np.random.Generator) -> list[Integers]:
    """Places of n members, then m non-members: blocks of at most about `size`, each class dealt evenly, rising."""
    n_blocks = -(-(n + m) // size)
    if n_blocks <= 1:
        return [np.arange(n + m)]
    of_classes = (np.array_split(rng.permutation(n), n_blocks), np.array_split(n + rng.permutation(m), n_blocks))
    return [np.sort(np.concatenate(parts)) for parts in zip(*of_classes, strict=True)]


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


def _deal_all(
    is_member: NDArray[np.bool_], learnt: Integers, group_of: Integers, fold: Integers, rng: np.random.Generator
) -> Integers:
    """(N,), the fold of each text: of those that are learnt from as dealt, of others by their group or, alone, in turn.

    Args:
        is_member: (N,).
        learnt: (l,), places of the texts that are learnt from.
        group_of: (N,), ALONE for a text of no group.
        fold: (l,), of the texts that are learnt from.
        rng: deals those that are alone.
    """
    if learnt.size == group_of.size:
        return fold
    fold_of_group = np.empty(group_of[learnt].max() + 1, dtype=np.intp)
    fold_of_group[group_of[learnt]] = fold
    found = fold_of_group[group_of]  # whatever stands for those that are alone is replaced
    for of_class in (is_member, ~is_member):
        alone = np.flatnonzero((group_of == ALONE) & of_class)
        found[rng.permutation(alone)] = np.arange(alone.size) % (fold.max() + 1)
    return found


ALONE = -1
"""The group of a text that shares nothing with those that are learnt from."""


def _folded(found: Integers, joined: Integers, groups: Integers, folds: int) -> Integers:
    """The groups `found` of further texts, numbered as in `groups`; ALONE where `_foldable` broke the group up."""
    number = np.full(joined.max() + 2, ALONE)  # the last one is that of ALONE
    is_whole = ~_is_too_large(joined, folds)
    number[joined[is_whole]] = groups[is_whole]
    return number[found]


def _is_too_large(groups: Integers, folds: int) -> NDArray[np.bool_]:
    """(n,), whether the group of each text does not fit into a fold."""
    return np.asarray(np.bincount(groups)[groups] > groups.size / folds)


def _foldable(groups: Integers, folds: int) -> Integers:
    """Break up groups that do not fit into a fold: boilerplate, not duplication.

    That can only raise the blind AUC, which is the safe side.
    """
    alone = np.arange(groups.size) + groups.size
    return np.unique(np.where(_is_too_large(groups, folds), alone, groups), return_inverse=True)[1]


def _not_measured(n: int, m: int, reason: str) -> BlindBaseline:
    missing = Estimate(None, n=n, m=m, reason=reason)
    by_name = dict.fromkeys(CLASSIFIERS, missing)
    return BlindBaseline("tfidf", missing, by_name, np.full(n, np.nan), np.full(m, np.nan))
