"""The picture of a comparison of mitigations: utility against leak, with the early-stopping frontier drawn."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kdaudit.metrics import METRICS
from kdaudit.metrics.frontier import ALL, Placed, PlainPoint
from kdaudit.report.blocks import Picture
from kdaudit.report.charts.canvas import INK, MODELS, panel, to_svg
from kdaudit.report.charts.plots import MAX_LABEL
from kdaudit.report.charts.sketch import runs_of
from kdaudit.report.mitigation_tables import off_frontier
from kdaudit.report.text import plain
from kdaudit.results.mitigation import Mitigation

SHAPES = ("s", "^", "D", "v", "P", "X", "<", ">", "p", "*", "h", "d")
"""The marks of arms by position: none needs a colour to be told from the others."""


def draw_frontier(table: Mitigation, attack: str, metric: str) -> Picture | None:
    """Held-out loss across, leak upwards: the stairs of the plain checkpoints, a marker for each arm.

    None where nothing could be measured. The bar of an arm spans its distance's interval, from the stair at its loss.
    """
    points = table.frontier[attack][metric]
    placed = {name: arm.placed[attack][metric] for name, arm in off_frontier(table).items()}
    shown = {name: found for name, found in placed.items() if found.point is not None}
    if not points:
        return None
    words, legend = METRICS[metric].short, 0.17 * ((len(shown) + 2) // 2)
    with panel(3.2 + legend, left=0.15, below=0.75 + legend) as (figure, axes):
        _draw_stairs(axes, points, leftmost=min(found.point.nll for found in shown.values() if found.point is not None)
                     if shown else None)  # fmt: skip
        for index, (name, found) in enumerate(shown.items()):
            _draw_arm(axes, found, index, plain(name, limit=MAX_LABEL), metric)
        axes.set(xlabel="held-out loss, nats per token (left is more useful)", ylabel=f"{words} of {attack}")
        axes.margins(0.12)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.grid(visible=True)
        figure.legend(*axes.get_legend_handles_labels(), loc="lower center", ncols=2)
        caption = (
            f"Utility against leak under {attack}, means over seeds. Numbers: epochs of the plain run, 0 before it. "
            "Below the stairs is better than stopping earlier. Bars: 95 % of the distance, all members."
        )
        return Picture(to_svg(figure, f"{words} of {attack} against held-out loss"), caption)


def _draw_stairs(axes: Axes, points: Sequence[PlainPoint], *, leftmost: float | None) -> None:
    """Every plain checkpoint, and the leak of the last one that is no more useful at every loss."""
    longest = max(point.run for point in points)
    stairs = sorted((point for point in points if point.is_stair), key=lambda point: point.nll) or list(points[:1])
    left = stairs[0].nll if leftmost is None else min(stairs[0].nll, leftmost)
    axes.step(
        [left, *(point.nll for point in stairs)], [stairs[0].leak, *(point.leak for point in stairs)], where="pre",
        color=INK, linewidth=1.2,
    )  # fmt: skip
    own = [point for point in points if point.run in (0, longest)]
    axes.plot(
        [point.nll for point in own], [point.leak for point in own], color=INK, marker="o", markersize=2.5,
        linestyle="", label="plain run",
    )  # fmt: skip
    for point in own:
        if point.epochs == int(point.epochs):
            axes.annotate(
                f"{point.epochs:g}", (point.nll, point.leak), xytext=(4, 4), textcoords="offset points", fontsize=7
            )
    further = [point for point in points if point.run not in (0, longest)]
    if further:
        axes.plot(
            [point.nll for point in further], [point.leak for point in further], color=INK, marker="o", markersize=5,
            markerfacecolor="none", linestyle="", label=runs_of(further),
        )  # fmt: skip


def _draw_arm(axes: Axes, found: Placed, index: int, name: str, metric: str) -> None:
    if found.point is None:
        return
    colour, whole = MODELS[index % len(MODELS)], found.groups.get(ALL)
    if whole is not None and whole.distance.low is not None and whole.distance.high is not None:
        lowest, highest = METRICS[metric].range
        ends = [max(whole.stair + whole.distance.low, lowest), min(whole.stair + whole.distance.high, highest)]
        axes.plot([found.point.nll] * 2, ends, color=colour, linewidth=1.2, solid_capstyle="butt")
    axes.plot(
        [found.point.nll], [found.point.leak], color=colour, marker=SHAPES[index % len(SHAPES)], markersize=6,
        linestyle="", label=name,
    )  # fmt: skip
