"""Whether the figures can be trusted, and what mixed supervision tells: tables and statements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kdaudit.config import name_models
from kdaudit.metrics.association import Quarter
from kdaudit.report.blocks import Table
from kdaudit.report.text import ABSENT, difference, interval, signed
from kdaudit.results import AuditResult, Power, Supervision, Validity

SUPERVISION = (
    "Mixed supervision: where the teacher already agrees with the text, its soft labels and the hard label tell the "
    "student the same thing twice. Shown here is how far the student follows its teacher on members and on "
    "non-members; what the mixture adds shows only beside a student of hard labels alone."
)
"""What the figures are about."""
SUPERVISION_FIGURES = (
    "The quarters are those of the non-members' probabilities, and the intervals of the gaps are Welch's. A model's "
    "excess is what a fit on non-members, by the starts' log-likelihoods and the length of the text, leaves of its "
    "mean log-likelihood per token; its intervals draw the records and fit anew 2000 times."
)
"""What the figures are."""
SUPERVISION_LIMIT = (
    "These figures tell whether the student took more from its teacher on members than on non-members, at equal "
    "difficulty for its start. They cannot tell whether the teacher's word is the cause: what the teacher learnt "
    "easily, a student of hard labels alone learns easily too. kdaudit mitigate --method hard-only trains that control."
)
"""What mixed supervision can and cannot tell without a control."""


HIDDEN = 0.6
"""A blind AUC beyond which sets could not be compared: an upper bound above it leaves the question open."""


MUCH_SHARED = 0.05
"""A share of the non-members whose text members share in good part: more of them make the sets hard to compare."""


def trust(validity: Validity) -> str:
    """What the checks say about the figures, in a sentence; why they failed stands in the verdict."""
    if validity.status == "failed":
        return (
            "No: members and non-members can be told apart by what no model remembers, as the verdict says. Nothing "
            "here says what the models remember."
        )
    if validity.blind_auc.value is None:
        return f"Not known: the blind classifier could not be measured ({validity.blind_auc.reason})."
    doubts = list(doubts_about(validity))
    return f"No check fails. Read them with care: {'; '.join(doubts)}." if doubts else "No check speaks against them."


def doubts_about(validity: Validity) -> Iterator[str]:
    """What a check that holds leaves open: it allows for many figures, and a reader looks at each."""
    alone = [found for by_attack in validity.reference_alone.values() for found in by_attack.values()]
    n_off = sum(
        not found.low <= 0.5 <= found.high for found in alone if found.low is not None and found.high is not None
    )
    if n_off:
        yield (
            f"{n_off} of {len(alone)} figures of references alone lie off 0.5 by their own 95 % interval, which the "
            "check widens because there are several"
        )
    high = validity.blind_auc.high
    if high is not None and high > HIDDEN:
        yield f"records are few, so a blind AUC of {high:.3f} is possible"
    shared = validity.overlap
    if shared.share_above_20_percent is not None and shared.share_above_20_percent > MUCH_SHARED:
        yield f"{shared.n_above_20_percent} non-members share much text with members"


def checks(result: AuditResult) -> Table:
    """The checks of the sets themselves, and how each is to be read."""
    rows = [*sets_rows(result.validity), _power_row(result.power)]
    return Table("Checks", ("check", "found", "how to read it"), rows)


def sets_rows(
    validity: Validity, *, named: Callable[[Sequence[str]], str] = name_models
) -> Iterator[tuple[str, str, str]]:
    """Rows of a table of checks: blind classifiers, references by themselves, duplicates, shared text.

    Args:
        validity: the checks.
        named: says of which models a reference is.
    """
    learnt = validity.blind_learnt_from
    part = (
        f"; learnt from {learnt:,} records drawn at random, each record scored by what learnt without it"
        if learnt
        else ""
    )
    yield (
        f"blind baseline ({validity.blind_name}): AUC",
        interval(validity.blind_auc),
        f"by the texts alone, no model involved: it ought to be at 0.5{part}",
    )
    for name, found in validity.blind.items():
        if name != validity.blind_name:
            yield f"blind classifier {name}: AUC", interval(found), "likewise"
    for figures, names in _references(validity).items():
        yield (
            f"reference alone ({named(names)}): AUC",
            figures,
            "it saw neither set, so each ought to be at 0.5",
        )
    for name, count in validity.duplicates.items():
        yield f"duplicates in --{name}", str(count), "kept once"
    shared = validity.overlap
    if shared.max_share is not None:
        yield (
            f"non-members that share more than 20 % of their {shared.n}-grams with members",
            f"{shared.n_above_20_percent} (largest share {100 * shared.max_share:.0f} %)",
            "they may be members in part",
        )


def _references(validity: Validity) -> dict[str, list[str]]:
    """The models of each reference, by its figures: equal references are shown once."""
    models: dict[str, list[str]] = {}
    for model, by_attack in validity.reference_alone.items():
        figures = ", ".join(f"{name} {interval(found)}" for name, found in by_attack.items())
        models.setdefault(figures, []).append(model)
    return models


def _power_row(found: Power) -> tuple[str, str, str]:
    smallest = found.smallest_detectable_auc
    if smallest is None:
        return "power: smallest AUC that can be told from 0.5", ABSENT, "this run is too small to tell any AUC from 0.5"
    # files of older versions knew of one cell alone
    shared = "" if found.cells is None else f"{_among(found.cells)}, above the blind classifier too"
    return (
        "power: smallest AUC that this run could have told from 0.5",
        f"{smallest:.3f}",
        f"{100 * found.level:g} % level{shared}, {100 * found.power:g} % power: a weaker leak may go unseen",
    )


def _among(cells: int) -> str:
    return f" shared by {cells} cells" if cells > 1 else ""


def unscored_notes(result: AuditResult) -> Iterator[str]:
    """How many records have no score, one line per count."""
    unscored: dict[int, list[str]] = {}
    for name, attack in result.attacks.items():
        unscored.setdefault(max((cell.unscored for cell in attack.cells.values()), default=0), []).append(name)
    for count, names in sorted(unscored.items()):
        if count:
            yield f"records without a score (NaN), left out for every model: {count} under {', '.join(names)}"


def supervision(result: AuditResult) -> Iterator[Table]:
    """Per student: members beside non-members, then how far they lie apart by quarter of the teacher's probability."""
    for student, pair in result.mixed_supervision.items():
        yield _sides(student, pair)
        yield _quarters(student, pair)


def supervision_notes(result: AuditResult) -> list[str]:
    """How to read the tables, why a gain is over nothing, and what no figure in them can tell."""
    if not result.mixed_supervision:
        return []
    notes = [f"{student}: {pair.gain_note}" for student, pair in result.mixed_supervision.items() if pair.gain_note]
    return [SUPERVISION_FIGURES, *notes, SUPERVISION_LIMIT]


def _sides(student: str, pair: Supervision) -> Table:
    """Figures x (members, non-members, the former minus the latter)."""
    has_start = pair.gain_over == "start"
    gain = "student's gain over its start" if has_start else "student's own log-likelihood"
    rank = "rank correlation of the two"
    both = (pair.members, pair.nonmembers)
    rows: list[Sequence[str]] = [
        ["teacher's probability of the true token", *(interval(one.teacher_mean_probability) for one in both), ABSENT],
        [f"{gain}, nats per token", *(interval(one.student_gain) for one in both), ABSENT],
        [
            f"{rank}, at equal loss of the start" if has_start else rank,
            *(signed(one.correlation) for one in both),
            ABSENT,
        ],
        [
            "student's excess per nat of the teacher's excess",
            *(signed(one) for one in (pair.slopes.members, pair.slopes.nonmembers)),
            signed(pair.slopes.interaction),
        ],
    ]
    head = ["figure", f"{pair.members.n} members", f"{pair.nonmembers.n} non-members", "difference"]
    return Table(f"Mixed supervision: {student}", head, rows)


def _quarters(student: str, pair: Supervision) -> Table:
    """Quarters of the teacher's probability x (members, non-members, gap of the gains)."""
    gain = "gain" if pair.gain_over == "start" else "log-likelihood"
    rows = [
        [_range(quarter), str(quarter.n_members), str(quarter.n_nonmembers), difference(quarter.gap)]
        for quarter in pair.quarters
    ]
    head = ["teacher's probability", "members", "non-members", f"{gain} of members − of non-members"]
    return Table(f"Mixed supervision: {student}, by the teacher's probability", head, rows, right=[1, 2])


def _range(quarter: Quarter) -> str:
    if quarter.low is None:
        return "all" if quarter.high is None else f"up to {quarter.high:.3f}"
    return f"above {quarter.low:.3f}" if quarter.high is None else f"{quarter.low:.3f} to {quarter.high:.3f}"
