"""The kinds of pictures in a report.

Nothing here is told apart by colour alone: models differ in marker and dash too, members are filled and non-members
drawn as a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.report.blocks import Picture
from kdaudit.report.charts.canvas import DASHES, FAINT, GRID, INK, MARKERS, MODELS, WIDTH, named, panel, picture, styled
from kdaudit.report.text import plain
from kdaudit.results import Alignment, AttackResult, Curve, Histogram, Supervision

LEGEND_COLUMNS = 4
MAX_LABEL = 24
"""Characters of a label on an axis."""
MAX_NUMBER = 1e9
"""What lies further out is drawn nowhere: no score and no gain of a real run does."""


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One line of a forest plot: a label, and a figure per series."""

    label: str
    figures: Mapping[str, Estimate | Difference | None]


def roc(name: str, attack: AttackResult, models: Sequence[str]) -> Picture | None:
    """ROC curves of one attack on every model, both axes logarithmic, with their pointwise bands.

    Left of one non-member in all of them there is no false alarm at all; that part is hatched.
    """
    curves = {model: curve for model in models if (curve := attack.curves.get(model)) is not None}
    if not curves:
        return None
    floor = min(_smallest_rate(curve) for curve in curves.values())
    least = min((value for curve in curves.values() for value in curve.fpr if value > 0), default=0.0)
    with panel(3.5, left=0.17, above=0.42) as (figure, axes):
        axes.set(xscale="log", yscale="log", xlim=(floor, 1), ylim=(floor, 1.15))
        if least > floor:
            axes.axvspan(floor, least, facecolor="none", edgecolor=GRID, hatch="////", linewidth=0)
            middle = (floor * least) ** 0.5
            axes.text(middle, floor * 1.3, "0 false alarms", rotation=90, ha="center", va="bottom", color=FAINT)
        axes.plot([floor, 1], [floor, 1], color=FAINT, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.text(0.15, 0.1, "guessing", ha="left", va="top", color=FAINT)
        for model, curve in curves.items():
            position = models.index(model)
            index = position % len(MODELS)
            x, low, high, y = levelled(curve, floor)
            axes.fill_between(x, low, high, color=MODELS[index], alpha=0.2, linewidth=0)
            axes.plot(
                x, y, color=MODELS[index], linestyle=DASHES[position % len(DASHES)], linewidth=1.6, label=named(model)
            )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
            axis.set_minor_locator(NullLocator())
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        axes.grid(visible=True)
        figure.legend(*axes.get_legend_handles_labels(), loc="upper left", ncols=LEGEND_COLUMNS)
        return picture(
            figure,
            f"ROC curves of {name} on {', '.join(curves)}",
            name,
            message=_roc_message(name, attack, list(curves)),
        )


def levelled(curve: Curve, floor: float) -> tuple[list[float], list[float], list[float], list[float]]:
    """False positive rates, low, high and TPR from `floor` on: without a false alarm the curve is level."""
    n_without = sum(value == 0 for value in curve.fpr)
    first = min((value for value in curve.fpr if value > 0), default=1.0)
    x = [floor, first, *curve.fpr[n_without:]]

    def side(values: Sequence[float]) -> list[float]:
        at_none = max(values[:n_without], default=0.0)
        return [max(value, floor) for value in (at_none, at_none, *values[n_without:])]

    return x, side(curve.tpr_low), side(curve.tpr_high), side(curve.tpr)


def _roc_message(name: str, attack: AttackResult, models: Sequence[str]) -> str:
    rates = {model: attack.cells[model].figures.get("tpr@0.01") for model in models}
    found = [
        f"{model} {100 * rate.value:.0f} %"
        for model, rate in rates.items()
        if rate is not None and rate.value is not None
    ]
    at = f": at 1 % false positives it finds {', '.join(found)} of the members" if found else ""
    return f"ROC curves of {name} on {', '.join(models)}{at}"


def forest(
    title: str,
    rows: Sequence[ForestRow],
    models: Sequence[str],
    *,
    centre: float | None,
    centre_words: str,
    label: str,
    caption: str,
    limits: Sequence[tuple[str, float]] = (),
    shared: Sequence[float] = (),
) -> Picture | None:
    """Figures with their intervals, one line per row and one marker per series.

    Args:
        title: names the picture.
        rows: from top to bottom.
        models: all that a row may name; the place of one decides its colour and marker.
        centre: where there is no leak, where that is one value; a dotted line.
        centre_words: what stands at that line.
        label: of the axis.
        caption: what the picture shows.
        limits: of gates, each with what it limits; lines, a model's in its colour and dash.
        shared: values that the axis must cover too, so that several pictures have one scale.
    """
    series = [name for name in models if any(_is_known(row.figures.get(name)) for row in rows)]
    known = [found for row in rows for found in row.figures.values() if _is_known(found)]
    if not known:
        return None
    labels = [plain(row.label, limit=MAX_LABEL) for row in rows]
    left = min(0.06 + 0.021 * max(map(len, labels)), 0.5)
    n_named = len(series) + len(set(limits))
    columns = max(1, min(LEGEND_COLUMNS, 52 // max(len(name) + 6 for name in (*series, *_limit_words(limits)))))
    above = 0.5 + 0.2 * ((n_named - 1) // columns)
    step = max(0.36, 0.12 * (len(series) + 1))
    with panel(0.6 + above + step * len(rows), left=left, below=0.62, above=above) as (figure, axes):
        if centre is not None:
            axes.axvline(centre, color=FAINT, linewidth=0.9, linestyle=(0, (2, 2)))
            axes.text(
                centre, 1.0, centre_words, transform=axes.get_xaxis_transform(), ha="center", va="bottom", color=FAINT
            )
        for subject, limit in sorted(set(limits)):
            _draw_limit(axes, limit, subject, models)
        told: dict[str, str] = {}
        for place, name in enumerate(series):
            shift = (place - (len(series) - 1) / 2) * min(0.26, 0.8 / len(series))
            told |= _draw_series(axes, rows, models.index(name), name, shift)
        span = [*ends(known), *([] if centre is None else [centre]), *(limit for _, limit in limits), *shared]
        margin = 0.05 * ((max(span) - min(span)) or 1)
        axes.set(xlim=(min(span) - margin, max(span) + margin), ylim=(len(rows) - 0.4, -0.6), xlabel=label)
        axes.set_yticks(range(len(rows)), labels)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=True, axis="x")
        if len(series) > 1 or limits:
            figure.legend(*axes.get_legend_handles_labels(), loc="upper left", ncols=columns)
        return picture(figure, title, caption, message=_forest_message(title, rows, series), told=told)


def _limit_words(limits: Sequence[tuple[str, float]]) -> list[str]:
    return [f"{plain(subject, limit=MAX_LABEL)} at most {limit:g}" for subject, limit in limits]


def _forest_message(title: str, rows: Sequence[ForestRow], series: Sequence[str]) -> str:
    """The title, and the highest figure of every series."""
    highest = []
    for name in series:
        values = {
            row.label: found.value
            for row in rows
            if (found := row.figures.get(name)) is not None and found.value is not None
        }
        top = max(values, key=lambda label: values[label])
        highest.append(f"{name} {values[top]:.3f} ({top})")
    return f"{title}. Highest: {', '.join(highest)}"


def _is_known(found: Estimate | Difference | None) -> bool:
    return found is not None and found.value is not None


def ends(figures: Iterable[Estimate | Difference | None]) -> list[float]:
    """Every value and end of an interval that is known."""
    return [
        end for found in figures if found is not None for end in (found.value, found.low, found.high) if end is not None
    ]


def histograms(name: str, attack: AttackResult, models: Sequence[str]) -> Picture | None:
    """Score densities of members and non-members, one panel per model."""
    found = {
        model: shape
        for model in models
        if (shape := attack.histograms.get(model)) is not None
        and shape.members
        and max(map(abs, shape.edges)) < MAX_NUMBER
    }
    if not found:
        return None
    with styled():
        figure = Figure(figsize=(WIDTH, 0.8 + 1.25 * len(found)))
        panels = figure.subplots(len(found), 1, squeeze=False)[:, 0]
        height = 0.8 + 1.25 * len(found)
        figure.subplots_adjust(left=0.06, right=0.97, top=1 - 0.3 / height, bottom=0.45 / height, hspace=0.55)
        for axes, (model, shape) in zip(panels, found.items(), strict=True):
            _draw_histogram(axes, shape, MODELS[models.index(model) % len(MODELS)])
            axes.set_title(model, loc="left", fontsize=9.3, pad=3)
        panels[-1].set_xlabel("score; larger means more likely a member")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="upper right", ncols=2)
        return picture(figure, f"Scores of {name} on {', '.join(found)}", name)


def alignment(student: str, pair: Supervision) -> Picture | None:
    """Mean alignment of the teacher against mean gain of the student, one point per class, with both intervals."""
    found = {"members": pair.members, "non-members": pair.nonmembers}
    if any(_ends(one.teacher_mean_probability) is None or _ends(one.student_gain) is None for one in found.values()):
        return None
    with panel(2.7, left=0.19, above=0.4) as (figure, axes):
        for index, (name, one) in enumerate(found.items()):
            _draw_cross(axes, one, index, name)
        gain = "gain over its start" if pair.gain_over == "start" else "own log-likelihood"
        axes.set(xlabel="teacher's mean probability of the true token", ylabel=f"{plain(student, limit=12)}: {gain}")
        axes.margins(0.25)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(visible=True)
        figure.legend(*axes.get_legend_handles_labels(), loc="upper left", ncols=2)
        caption = (
            "Means over members and over non-members: how probable the teacher found the true tokens, and "
            f"{gain} of {student} in nats per token. Bars: 95 %. No single record is shown."
        )
        return picture(figure, f"Alignment and gain of {student}", caption)


def _ends(found: Estimate) -> tuple[float, float, float] | None:
    """Value, low and high, where all are known and can be drawn."""
    if found.value is None or found.low is None or found.high is None:
        return None
    if max(abs(found.value), abs(found.low), abs(found.high)) > MAX_NUMBER:
        return None
    return found.value, found.low, found.high


def _draw_cross(axes: Axes, found: Alignment, index: int, name: str) -> None:
    across, up = _ends(found.teacher_mean_probability), _ends(found.student_gain)
    if across is None or up is None:
        return
    axes.errorbar(
        across[0], up[0],
        xerr=[[max(across[0] - across[1], 0)], [max(across[2] - across[0], 0)]],
        yerr=[[max(up[0] - up[1], 0)], [max(up[2] - up[0], 0)]],
        color=MODELS[index], marker=MARKERS[index], markersize=6, linewidth=1.5, label=named(name),
    )  # fmt: skip


def _draw_series(axes: Axes, rows: Sequence[ForestRow], index: int, name: str, shift: float) -> dict[str, str]:
    """Draw one series; gives what a reader who points at a marker is told, by the marker's id."""
    colour, marker = MODELS[index % len(MODELS)], MARKERS[index % len(MARKERS)]
    told: dict[str, str] = {}
    for place, row in enumerate(rows):
        found = row.figures.get(name)
        if found is None or found.value is None:
            continue
        words = f"{name}, {row.label}: {found.value:.3f}"
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [place + shift] * 2, color=colour, linewidth=1.6, solid_capstyle="butt")
            words += f" [{found.low:.3f}, {found.high:.3f}]"
        key = f"told-{index}-{place}"
        axes.plot(
            [found.value], [place + shift], color=colour, marker=marker, markersize=4.5, linestyle="", gid=key,
            label="" if told else named(plain(name, limit=MAX_LABEL)),
        )  # fmt: skip
        told[key] = words
    return told


def _draw_limit(axes: Axes, limit: float, subject: str, models: Sequence[str]) -> None:
    index = models.index(subject) if subject in models else None
    axes.axvline(
        limit, color=INK if index is None else MODELS[index % len(MODELS)],
        linestyle="-" if index is None else DASHES[index % len(DASHES)], linewidth=1.1,
        label=named(_limit_words([(subject, limit)])[0]),
    )  # fmt: skip


def _draw_histogram(axes: Axes, shape: Histogram, colour: str) -> None:
    widths = [right - left for left, right in zip(shape.edges, shape.edges[1:], strict=False)]

    def density(counts: Sequence[int]) -> list[float]:
        total = sum(counts) or 1
        return [count / total / width for count, width in zip(counts, widths, strict=True)]

    axes.stairs(density(shape.members), shape.edges, fill=True, color=colour, alpha=0.45, linewidth=0, label="members")
    axes.stairs(density(shape.nonmembers), shape.edges, color=INK, linewidth=1.2, label="non-members")
    if len(widths) > 2:
        axes.set_xlim(shape.edges[1], shape.edges[-2])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6))


def _smallest_rate(curve: Curve) -> float:
    """The decade at or below the smallest false positive rate above 0, at least 1 in 10 000."""
    smallest = min((value for value in curve.fpr if value > 0), default=0.1)
    return next((decade for decade in (0.1, 0.01, 0.001) if decade <= smallest), 0.0001)
