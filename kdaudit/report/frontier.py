"""The picture of a comparison of mitigations: utility against leak, with the early-stopping frontier drawn."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kdaudit.metrics.frontier import Placed
from kdaudit.report.arms import METRIC_WORDS, off_frontier
from kdaudit.report.canvas import INK, MODELS, panel, to_svg
from kdaudit.report.charts import MAX_LABEL, Chart
from kdaudit.report.text import plain
from kdaudit.results.mitigation import Mitigation

SHAPES = ("s", "^", "D", "v", "P", "X", "<", ">", "p", "*", "h", "d")
"""Of arms by position: none needs a colour to be told from the others."""


def draw_frontier(table: Mitigation, attack: str, metric: str) -> Chart | None:
    """Held-out loss across, leak upwards: a line through the plain run's epochs, a marker an arm; None without a point.

    The bar of an arm spans its distance's interval, from the frontier at its loss.
    """
    epochs = table.frontier[attack][metric]
    placed = {name: arm.placed[attack][metric] for name, arm in off_frontier(table).items()}
    shown = {name: found for name, found in placed.items() if found.point is not None}
    if not epochs:
        return None
    words, legend = METRIC_WORDS.get(metric, metric), 0.17 * ((len(shown) + 2) // 2)
    with panel(3.2 + legend, left=0.15, below=0.75 + legend) as (figure, axes):
        axes.plot(
            [point.nll for point in epochs], [point.leak for point in epochs], color=INK, marker="o", markersize=4,
            linewidth=1.2, label="plain, after each epoch",
        )  # fmt: skip
        for epoch, point in enumerate(epochs, start=1):
            axes.annotate(str(epoch), (point.nll, point.leak), xytext=(4, 4), textcoords="offset points", fontsize=7)
        for index, (name, found) in enumerate(shown.items()):
            _draw_arm(axes, found, index, plain(name, limit=MAX_LABEL))
        axes.set(xlabel="held-out loss, nats per token (left is more useful)", ylabel=f"{words} of {attack}")
        axes.margins(0.12)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.grid(visible=True)
        figure.legend(*axes.get_legend_handles_labels(), loc="lower center", ncols=2)
        caption = (
            f"Utility against leak under {attack}, means over seeds. Numbers: epochs of the plain run. Below its "
            "line is better than stopping earlier. Bars: 95 % of the distance."
        )
        return Chart(to_svg(figure, f"{words} of {attack} against held-out loss"), caption)


def _draw_arm(axes: Axes, found: Placed, index: int, name: str) -> None:
    if found.point is None:
        return
    colour, at = MODELS[index % len(MODELS)], found.frontier
    low, high = found.distance.low, found.distance.high
    if at is not None and low is not None and high is not None:
        axes.plot(
            [found.point.nll] * 2,
            [max(at + low, 0), min(at + high, 1)],
            color=colour,
            linewidth=1.2,
            solid_capstyle="butt",
        )
    axes.plot(
        [found.point.nll], [found.point.leak], color=colour, marker=SHAPES[index % len(SHAPES)], markersize=6,
        linestyle="", label=name,
    )  # fmt: skip
