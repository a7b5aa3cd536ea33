"""Which pictures a report shows of which figures; loads matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.report import charts
from kdaudit.report.canvas import PREFIX
from kdaudit.report.charts import Chart, Row
from kdaudit.report.content import Report, Run
from kdaudit.report.headline import auc_of_chosen, strongest
from kdaudit.results import AuditResult

AUC_CAPTION = "AUC of every attack with its 95 % interval. Dashed: guessing."
GAP_CAPTION = (
    "AUC of the student minus that of the teacher with its 95 % interval. Right of the dashed line it leaks more."
)
QUARTERS = ("lowest", "second", "third", "highest")
QUARTERS_CAPTION = (
    "How much more the student gained on members than on non-members, by quarter of the teacher's probability of the "
    "text. Bars: 95 %."
)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Of one run."""

    levels: Sequence[Chart]
    """Forest plots."""
    curves: Sequence[Chart]
    """ROC curves, the strongest attack first."""
    scores: Sequence[Chart]
    """Histograms, in the same order."""
    supervision: Sequence[Chart]


def pictures_of(report: Report) -> tuple[list[Chart], list[Pictures]]:
    """The pictures that compare the runs, none where there is one, and those of each run on scales that all share."""
    aucs = charts.ends(auc for run in report.runs for auc in _aucs(run.result))
    gaps = charts.ends(gap for run in report.runs for gap in _gaps(run.result))
    is_single = len(report.runs) == 1
    each = [_of_run(run, number, aucs, gaps, is_whole=is_single) for number, run in enumerate(report.runs, start=1)]
    return [] if is_single else _side_by_side(report), each


def _of_run(run: Run, number: int, aucs: Sequence[float], gaps: Sequence[float], *, is_whole: bool) -> Pictures:
    """All pictures of a run, or those of its strongest attack alone, where it is one of several."""
    result, models = run.result, list(run.result.models)
    order = _by_strength(result) if is_whole else _by_strength(result)[:1]
    drawn = Pictures(
        levels=_present([_levels(result, aucs), _differences(result, gaps)]),
        curves=_present(charts.roc(name, result.attacks[name], models) for name in order),
        scores=_present(charts.histograms(name, result.attacks[name], models) for name in order),
        supervision=_present(
            picture
            for student, pair in result.mixed_supervision.items()
            for picture in (
                charts.alignment(student, pair),
                charts.forest(
                    f"Mixed supervision of {student}",
                    [
                        Row(f"{words} quarter", {"members": quarter.gap})
                        for words, quarter in zip(QUARTERS, pair.quarters, strict=False)
                    ],
                    ["members"],
                    centre=0,
                    label="gain of members − of non-members, nats per token",
                    caption=QUARTERS_CAPTION,
                ),
            )
        ),
    )
    return Pictures(
        *(_numbered(each, number) for each in (drawn.levels, drawn.curves, drawn.scores, drawn.supervision))
    )


def _numbered(pictures: Iterable[Chart], number: int) -> list[Chart]:
    """The same with ids that no other run's pictures have: equal pictures have equal ids."""
    return [replace(chart, svg=chart.svg.replace(PREFIX, f"{PREFIX}{number}-")) for chart in pictures]


def _levels(result: AuditResult, shared: Sequence[float]) -> Chart | None:
    rows = [
        Row(name, {model: cell.auc for model, cell in attack.cells.items()}) for name, attack in result.attacks.items()
    ]
    gates = [gate for gate in result.verdict.gates if gate.metric == "auc" and gate.subject != "difference"]
    limits = [(gate.subject, gate.limit) for gate in gates]
    return charts.forest(
        "AUC of every attack",
        rows,
        list(result.models),
        centre=0.5,
        label="AUC",
        caption=AUC_CAPTION,
        limits=limits,
        shared=shared,
    )


def _differences(result: AuditResult, shared: Sequence[float]) -> Chart | None:
    rows = [
        Row(name, {student: found.auc for student, found in attack.comparison.items()})
        for name, attack in result.attacks.items()
    ]
    gates = [gate for gate in result.verdict.gates if gate.metric == "auc" and gate.subject == "difference"]
    limits = [(gate.subject, gate.limit) for gate in gates]
    return charts.forest(
        "Student minus teacher",
        rows,
        list(result.models),
        centre=0,
        label="difference of AUC",
        caption=GAP_CAPTION,
        limits=limits,
        shared=shared,
    )


def _side_by_side(report: Report) -> list[Chart]:
    """Per run and student, the strongest attack on the student."""
    rows, gaps = [], []
    for run in report.runs:
        students = [name for name in run.result.models if name != "teacher"]
        for student in students:
            name = strongest(run.result, student)
            if name is None:
                continue
            attack, label = run.result.attacks[name], run.name if len(students) == 1 else f"{run.name}: {student}"
            rows.append(
                Row(
                    label, {"teacher": attack.cells["teacher"].auc, "student": auc_of_chosen(run.result, name, student)}
                )
            )
            compared = attack.comparison.get(student)
            gaps.append(Row(label, {"student": compared.auc if compared else None}))
    return _present(
        [
            charts.forest(
                "The strongest attack of every run",
                rows,
                ["teacher", "student"],
                centre=0.5,
                label="AUC",
                caption=(
                    "The strongest attack on the student of every run, its interval simultaneous over all attacks, "
                    "and the same attack on its teacher."
                ),
            ),
            charts.forest(
                "Student minus teacher in every run",
                gaps,
                ["teacher", "student"],
                centre=0,
                label="difference of AUC",
                caption=GAP_CAPTION,
            ),
        ]
    )


def _by_strength(result: AuditResult) -> list[str]:
    """The attacks, the largest AUC on any student first."""

    def largest(name: str) -> float:
        cells = result.attacks[name].cells
        found = [cell.auc.value for model, cell in cells.items() if model != "teacher" and cell.auc is not None]
        return max((value for value in found if value is not None), default=-1.0)

    return sorted(result.attacks, key=largest, reverse=True)


def _aucs(result: AuditResult) -> list[Estimate | None]:
    return [cell.auc for attack in result.attacks.values() for cell in attack.cells.values()]


def _gaps(result: AuditResult) -> list[Difference | None]:
    return [found.auc for attack in result.attacks.values() for found in attack.comparison.values()]


def _present(found: Iterable[Chart | None]) -> list[Chart]:
    return [chart for chart in found if chart is not None]
