"""What a report draws: the ROC curve with its band, and the histogram of the scores."""

from __future__ import annotations

import numpy as np

from kdaudit.metrics.bounds import clopper_pearson_band
from kdaudit.metrics.scores import Floats, Integers, finite


def roc_curve(
    members: Floats, nonmembers: Floats, *, max_points: int = 200, level: float = 0.95
) -> tuple[Floats, Floats, Floats, Floats]:
    """The empirical ROC curve, thinned to its own exact points, with a pointwise band on the TPR.

    Half of the points are spaced evenly in log FPR, so that the curve keeps its detail where attacks are judged; the
    rest evenly in FPR and in TPR. (0, 0) and (1, 1) are always there. The band is Clopper-Pearson's for the TPR at
    the threshold of each point: it says nothing about the FPR, nor about the curve as a whole.

    Args:
        members: (n,), finite, n at least 1.
        nonmembers: (m,), finite, m at least 1.
        max_points: most points to give, at least 10.
        level: chance that the band covers one point's true TPR, in (0, 1).

    Returns:
        FPR, TPR, and the band's lower and upper end, each (p,), p at most `max_points`, FPR and TPR never falling.

    Raises:
        ValueError: a class is empty, a score is NaN or infinite, or max_points is below 10.
    """
    members, nonmembers = finite(members), finite(nonmembers)
    n, m = members.size, nonmembers.size
    if min(n, m) == 0 or max_points < 10:
        raise ValueError("a ROC curve needs a score of each class and room for ten points")
    thresholds = np.unique(np.concatenate([members, nonmembers]))[::-1]
    true_positives = np.append(n - np.sort(members).searchsorted(thresholds, side="right"), n)
    false_positives = np.append(m - np.sort(nonmembers).searchsorted(thresholds, side="right"), m)
    kept = np.arange(true_positives.size)
    if kept.size > max_points:
        n_log, n_true = max_points // 2, max_points // 4
        n_false = max_points - n_log - n_true - 2
        wanted_false = np.concatenate([np.geomspace(1, m, n_log), np.linspace(0, m, n_false)])
        at_false = false_positives.searchsorted(wanted_false, side="right") - 1
        at_true = true_positives.searchsorted(np.linspace(0, n, n_true), side="left")
        kept = np.unique(np.concatenate([[0, kept.size - 1], at_false, at_true]))
    low, high = clopper_pearson_band(true_positives[kept], n, level)
    return false_positives[kept] / m, true_positives[kept] / n, low, high


def histogram(
    members: Floats, nonmembers: Floats, *, max_bins: int = 60, min_count: int = 5
) -> tuple[Floats, Integers, Integers]:
    """Counts of both classes over shared bins, none of which holds so few records that one could be singled out.

    The bins between the 0.5 % and the 99.5 % quantile are equally wide, the two outer ones reach to the extremes;
    then neighbours are merged, from the left, until each holds `min_count` records of both classes together.

    Args:
        members: (n,), finite.
        nonmembers: (m,), finite.
        max_bins: most bins to give, at least 3.
        min_count: fewest records in a bin.

    Returns:
        Edges (b + 1,), rising, and the counts of members and non-members, each (b,), which add up to n and m. Three
        empty arrays where there are fewer than `min_count` records in all.

    Raises:
        ValueError: a score is NaN or infinite, or max_bins is below 3.
    """
    members, nonmembers = finite(members), finite(nonmembers)
    if max_bins < 3:
        raise ValueError("a histogram needs room for three bins")
    together = np.concatenate([members, nonmembers])
    if together.size < max(min_count, 1):
        return np.empty(0), np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp)
    lowest, left, right, highest = np.quantile(together, [0, 0.005, 0.995, 1])
    edges = np.unique(np.concatenate([[lowest, highest], np.linspace(left, right, max_bins - 1)]))
    if edges.size == 1:
        margin = max(0.5, abs(lowest) / 2)
        edges = np.array([lowest - margin, lowest + margin])
    counts = [np.histogram(scores, edges)[0].astype(np.intp) for scores in (members, nonmembers)]
    starts = _bin_starts(counts[0] + counts[1], min_count)
    merged_members, merged_nonmembers = (np.add.reduceat(each, starts) for each in counts)
    return np.append(edges[starts], edges[-1]), merged_members, merged_nonmembers


def _bin_starts(counts: Integers, min_count: int) -> Integers:
    """Where the merged bins begin, so that each holds at least `min_count`; a rest joins the last one."""
    starts, held = [0], 0
    for index, count in enumerate(counts.tolist()):
        if held >= min_count:
            starts.append(index)
            held = 0
        held += count
    if held < min_count and len(starts) > 1:
        starts.pop()
    return np.array(starts, dtype=np.intp)
