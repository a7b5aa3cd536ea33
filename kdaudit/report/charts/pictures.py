"""Which pictures a report shows, of an audit and of a comparison of mitigations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kdaudit.config import LONE, TEACHER
from kdaudit.metrics import METRICS
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.frontier import ALL, Placed, PlainPoint
from kdaudit.metrics.metric import Metric
from kdaudit.report import card
from kdaudit.report.blocks import Picture
from kdaudit.report.charts import plots
from kdaudit.report.charts.bars import Bar, bars
from kdaudit.report.charts.canvas import FAINT, INK, MARKERS, MODELS, PREFIX, panel, picture, styled
from kdaudit.report.charts.names import name_points
from kdaudit.report.charts.plots import MAX_LABEL, ForestRow
from kdaudit.report.charts.sketch import runs_of
from kdaudit.report.headline import auc_of_chosen, shown_models, strongest
from kdaudit.report.mitigation_tables import off_frontier
from kdaudit.report.page import RunPictures
from kdaudit.report.reading import Report, Run
from kdaudit.report.tables import named_attack
from kdaudit.report.text import plain
from kdaudit.results import AttackResult, AuditResult
from kdaudit.results.mitigation import Mitigation
from kdaudit.verdict.baseline import why_not_comparable
from kdaudit.verdict.gates import DIFFERENCE

LEVEL_CAPTION = "{} of every attack with its 95 % interval."
GAP_CAPTION = (
    "{} of the student minus that of the teacher with its 95 % interval. Right of the dotted line it leaks more."
)
QUARTERS = ("lowest", "second", "third", "highest")
QUARTERS_CAPTION = (
    "How much more the student gained on members than on non-members, by quarter of the teacher's probability of the "
    "text. Bars: 95 %."
)


def pictures_of(report: Report) -> tuple[list[Picture], list[RunPictures]]:
    """The pictures that compare the runs, none where there is one, and those of each run on scales that all share."""
    is_single = len(report.runs) == 1
    with styled():  # once for all: to reset matplotlib's settings takes as long as to draw some lines
        each = [_of_run(report, run, number, is_whole=is_single) for number, run in enumerate(report.runs, start=1)]
        return [] if is_single else _side_by_side(report), each


def _of_run(report: Report, run: Run, number: int, *, is_whole: bool) -> RunPictures:
    """All pictures of a run, or those of its strongest attack alone, where it is one of several."""
    result, models = run.result, list(run.result.models)
    order = _by_strength(result) if is_whole else _by_strength(result)[:1]
    drawn = RunPictures(
        levels=[
            *_present(_since_baseline(report, result)),
            *_present(
                picture
                for metric in _plotted(result)
                for picture in (
                    _forest(report, result, metric, is_difference=is_difference) for is_difference in (False, True)
                )
            ),
        ],
        curves=_present(plots.roc(name, result.attacks[name], models) for name in order),
        scores=_present(plots.histograms(name, result.attacks[name], models) for name in order),
        supervision=_present(
            picture
            for student, pair in result.mixed_supervision.items()
            for picture in (
                plots.alignment(student, pair),
                plots.forest(
                    f"Mixed supervision of {student}",
                    [
                        ForestRow(f"{words} quarter", {"members": quarter.gap})
                        for words, quarter in zip(QUARTERS, pair.quarters, strict=False)
                    ],
                    ["members"],
                    centre=0,
                    centre_words="no difference",
                    label="gain of members − non-members, nats",
                    caption=QUARTERS_CAPTION,
                ),
            )
        ),
    )
    levels, curves, scores, supervision = (
        _numbered(each, number) for each in (drawn.levels, drawn.curves, drawn.scores, drawn.supervision)
    )
    return RunPictures(levels, curves, scores, supervision, _of_verdict(result))


def _of_verdict(result: AuditResult) -> Picture | None:
    """The strongest attack on every model, out of 100 guesses; nothing where no figure says what a model remembers."""
    shown = shown_models(result)
    if not shown or result.validity.status == "failed":
        return None
    limits = card.limit_lines(result)
    rows = [
        Bar(
            one.model, [*result.models].index(one.model), one.auc.value or 0.0, one.auc.low, one.auc.high,
            card.in_100(one.auc.value, *(limit for _, limit in limits)),
            f"{one.model}: {card.in_100(one.auc.value)} in 100 by {one.attack}"
            f" ({card.in_100(one.auc.low)} to {card.in_100(one.auc.high)})",
        )
        for one in shown
    ]  # fmt: skip
    title = "Right guesses in 100, strongest attack"
    return bars(title, rows, chance=0.5, limits=limits, message=card.message(shown, limits))


def _numbered(pictures: Iterable[Picture], number: int) -> list[Picture]:
    """The same with ids that no other run's pictures have: equal pictures have equal ids."""
    return [replace(one, svg=one.svg.replace(PREFIX, f"{PREFIX}{number}-")) for one in pictures]


def _plotted(result: AuditResult) -> list[Metric]:
    """The metrics with a picture of their own; those at a false positive rate are in the curves, unless gated."""
    gated = {gate.metric for gate in result.verdict.gates}
    return [
        metric
        for metric in METRICS.values()
        if metric.name in gated or (metric.is_headline and not metric.group and not metric.beside)
    ]


def _forest(report: Report, result: AuditResult, metric: Metric, *, is_difference: bool) -> Picture | None:
    """One metric of every attack, or what the students have more of it than the teacher; on a scale of all runs."""

    def figures(attack: AttackResult) -> dict[str, Estimate | Difference | None]:
        parts = attack.comparison if is_difference else attack.cells
        return {model: part.figures.get(metric.name) for model, part in parts.items()}

    words = metric.short
    if is_difference:
        title, label, caption = f"Student minus teacher, {words}", f"difference of {words}", GAP_CAPTION.format(words)
    else:
        title, label, caption = f"{words} of every attack", words, LEVEL_CAPTION.format(words)
    return plots.forest(
        title,
        [ForestRow(name, figures(attack)) for name, attack in result.attacks.items()],
        list(result.models),
        centre=0 if is_difference else metric.chance,
        centre_words="no difference" if is_difference else "guessing",
        label=label,
        caption=caption,
        limits=_limits(result, metric, is_difference=is_difference),
        shared=plots.ends(
            found for run in report.runs for attack in run.result.attacks.values() for found in figures(attack).values()
        ),
    )


def _limits(result: AuditResult, metric: Metric, *, is_difference: bool) -> list[tuple[str, float]]:
    return [
        (gate.subject, gate.limit)
        for gate in result.verdict.gates
        if gate.metric == metric.name and (gate.subject == DIFFERENCE) == is_difference
    ]


def _side_by_side(report: Report) -> list[Picture]:
    """Per run and student, the strongest attack on the student."""
    rows, gaps = [], []
    for run in report.runs:
        students = run.result.targets
        for student in students:
            name = strongest(run.result, student)
            if name is None:
                continue
            attack, label = run.result.attacks[name], run.name if len(students) == 1 else f"{run.name}: {student}"
            own = "student" if run.result.has_teacher else student
            beside = {TEACHER: attack.cells[TEACHER].auc} if run.result.has_teacher else {}
            rows.append(ForestRow(label, {**beside, own: auc_of_chosen(run.result, name, student)}))
            compared = attack.comparison.get(student)
            gaps.append(ForestRow(label, {"student": compared.auc if compared else None}))
    paired, lone = ([run for run in report.runs if run.result.has_teacher is has] for has in (True, False))
    series = [*([TEACHER, "student"] if paired else []), *([LONE] if lone else [])]
    about = " or the ".join(name for name in series if name != TEACHER)
    caption = f"The strongest attack on the {about} of every run, its interval simultaneous over all attacks"
    return _present(
        [
            plots.forest(
                "The strongest attack of every run",
                rows,
                series,
                centre=0.5,
                centre_words="guessing",
                label="AUC",
                caption=caption + (", and the same attack on its teacher." if paired else "."),
            ),
            plots.forest(
                "Student minus teacher in every run",
                gaps,
                ["teacher", "student"],
                centre=0,
                centre_words="no difference",
                label="difference of AUC",
                caption=GAP_CAPTION.format("AUC"),
            ),
            _attacks_by_run(report),
        ]
    )


def _attacks_by_run(report: Report) -> Picture | None:
    """Every attack on the first target of every run; None where there are more runs than marks."""
    if len(report.runs) > len(MARKERS):
        return None
    names = list(dict.fromkeys(name for run in report.runs for name in run.result.attacks))
    rows = [
        ForestRow(
            name,
            {
                run.name: run.result.attacks[name].cells[run.result.targets[0]].auc
                for run in report.runs
                if name in run.result.attacks
            },
        )
        for name in names
    ]
    return plots.forest(
        "AUC of every attack in every run",
        rows,
        [run.name for run in report.runs],
        centre=0.5,
        centre_words="guessing",
        label="AUC",
        caption="AUC of every attack on the student of every run, or on its only model, with its 95 % interval.",
    )


def _since_baseline(report: Report, result: AuditResult) -> Iterator[Picture | None]:
    """Old beside new, a picture for each model that both runs have; none where other records were scored."""
    then = report.earlier
    if then is None or why_not_comparable(result, then):
        return
    for model in result.models:
        if model not in then.models:
            continue
        names = [name for name in result.attacks if name in then.attacks]
        rows = [
            ForestRow(
                name,
                {"then": then.attacks[name].cells[model].auc, "now": result.attacks[name].cells[model].auc},
            )
            for name in names
        ]
        yield plots.forest(
            f"AUC on the {model}, then and now",
            rows,
            ["then", "now"],
            centre=0.5,
            centre_words="guessing",
            label="AUC",
            caption=f"AUC of every attack on the {model} in the baseline and in this run, with 95 % intervals.",
        )


def _by_strength(result: AuditResult) -> list[str]:
    """The attacks, the largest AUC on any target first."""

    def largest(name: str) -> float:
        cells = result.attacks[name].cells
        found = [cells[model].auc for model in result.targets]
        return max((auc.value for auc in found if auc is not None and auc.value is not None), default=-1.0)

    return sorted(result.attacks, key=largest, reverse=True)


def _present(found: Iterable[Picture | None]) -> list[Picture]:
    return [picture for picture in found if picture is not None]


def frontier_title(attack: str, metric: str) -> str:
    """What the picture of one attack and metric is called."""
    return f"{METRICS[metric].short} of {attack} against held-out loss"


def frontiers_of(table: Mitigation) -> list[Picture]:
    """The pictures of a comparison of mitigations, one for each attack and metric that could be measured."""
    with styled():
        return _present(draw_frontier(table, attack, metric) for attack, of in table.frontier.items() for metric in of)


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
    words, limits = METRICS[metric].short, _limits_of_arms(table, attack, metric)
    with panel(3.6, left=0.17, below=0.55, above=0.5) as (figure, axes):
        _draw_stairs(axes, points, leftmost=min(found.point.nll for found in shown.values() if found.point is not None)
                     if shown else None)  # fmt: skip
        told = {}
        for index, (name, found) in enumerate(shown.items()):
            told[f"arm-{index}"] = _draw_arm(axes, found, index, name, metric, is_taken=name == table.recommended)
        for limit in limits:
            axes.axhline(limit, color=INK, linewidth=1.1, linestyle=(0, (4, 1.5)), label=f"limit {limit:g}")
        axes.set(xlabel="held-out loss, nats per token (left is more useful)", ylabel=f"{words} of {attack}")
        axes.margins(0.14)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.grid(visible=True)
        arms = {
            plain(name, limit=MAX_LABEL): (found.point.nll, found.point.leak)
            for name, found in shown.items()
            if found.point is not None
        }
        bars = [
            [(found.point.nll, end) for end in ends]
            for found in shown.values()
            if found.point is not None and (ends := _spans(found, metric)) is not None
        ]
        name_points(axes, arms, [*bars, *([(point.nll, point.leak)] for point in points)])
        figure.legend(*axes.get_legend_handles_labels(), loc="upper left", ncols=2)
        caption = (
            f"Utility against leak under {attack}, means over seeds. Numbers: epochs of the plain run, 0 before it. "
            "Below the stairs is better than stopping earlier. Bars: 95 % of the distance, all members."
        )
        title = message = frontier_title(attack, metric)
        if table.recommended in shown and (point := shown[table.recommended].point) is not None:
            message += f". Recommended: {table.recommended}, {words} {point.leak:.3f} at {point.nll:.3f} nats per token"
        return picture(figure, title, caption, message=message, told=told)


def _limits_of_arms(table: Mitigation, attack: str, metric: str) -> list[float]:
    """The limits on the students under this attack and metric."""
    gates = (gate for arm in table.arms.values() for gate in arm.gates)
    return sorted(
        {
            gate.limit
            for gate in gates
            if gate.metric == metric and gate.subject.startswith("student") and named_attack(gate) in (None, attack)
        }
    )


def _spans(found: Placed, metric: str) -> tuple[float, float] | None:
    """Between which leaks the bar of an arm reaches; None where it has none."""
    whole = found.groups.get(ALL)
    if whole is None or whole.distance.low is None or whole.distance.high is None:
        return None
    lowest, highest = METRICS[metric].range
    return max(whole.stair + whole.distance.low, lowest), min(whole.stair + whole.distance.high, highest)


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
                f"{point.epochs:g}", (point.nll, point.leak), xytext=(4, 4), textcoords="offset points", color=FAINT
            )
    further = [point for point in points if point.run not in (0, longest)]
    if further:
        axes.plot(
            [point.nll for point in further], [point.leak for point in further], color=INK, marker="o", markersize=5,
            markerfacecolor="none", linestyle="", label=runs_of(further),
        )  # fmt: skip


def _draw_arm(axes: Axes, found: Placed, index: int, name: str, metric: str, *, is_taken: bool) -> str:
    """Draw one arm, with a ring where it is the one to take; gives what a reader who points at it is told."""
    if found.point is None:
        return name
    colour, ends = MODELS[index % len(MODELS)], _spans(found, metric)
    if ends is not None:
        axes.plot([found.point.nll] * 2, ends, color=colour, linewidth=1.2, solid_capstyle="butt")
    if is_taken:
        axes.plot(
            [found.point.nll], [found.point.leak], color=INK, marker="o", markersize=12, markerfacecolor="none",
            linestyle="", label="recommended",
        )  # fmt: skip
    axes.plot(
        [found.point.nll], [found.point.leak], color=colour, marker=SHAPES[index % len(SHAPES)], markersize=6,
        linestyle="", gid=f"arm-{index}",
    )  # fmt: skip
    return f"{name}: {found.point.leak:.3f} at {found.point.nll:.3f} nats per token, {found.finding}"
