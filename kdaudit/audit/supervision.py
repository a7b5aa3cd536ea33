"""Mixed supervision: does the student take more from its teacher on members than on non-members?

Source: arXiv:2505.11837. On vulnerable records the teacher's soft labels repeat the hard labels, so that the student is
told the same thing twice and grows over-confident. What is easy to learn is easy for teacher and student alike,
whatever the student was told. So members are held against non-members, at equal difficulty: the excess of a model is
what is left of its mean log-likelihood after a fit, on non-members, on what the starts made of the record and on its
length. The cause needs a student of hard labels alone: `kdaudit.metrics.excess.supervision_effect`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kdaudit.audit.plan import Plan, Subject
from kdaudit.audit.scoring import Scores
from kdaudit.draws import generator
from kdaudit.metrics.association import gaps_by_quarter, mean_estimate, spearman
from kdaudit.metrics.estimate import Difference, Estimate
from kdaudit.metrics.excess import Mask, Slopes, excess_slopes
from kdaudit.results import Alignment, AttackResult, PairedDetections, Supervision
from kdaudit.signals.likelihoods import Floats, Likelihoods

TABLE_ATTACKS = ("reference", "loss")
"""Whose detections fill the 2 x 2 table: the first one that ran on both models."""
NO_START = "no comparable start of the student was given, so nothing tells what a text's difficulty explains"


def describe_supervision(
    plan: Plan, scores: Scores, results: Mapping[str, AttackResult], *, n_members: int, seed: int
) -> dict[str, Supervision]:
    """By student; records without a signal of any model that is read here are left out of all its figures.

    Args:
        plan: who is audited, from which start.
        scores: what every model makes of each record.
        results: of the attacks, for who detects what.
        n_members: how many records are members; they come first.
        seed: of the audit.
    """
    teacher, *students = plan.subjects
    return {student.name: _pair(plan, teacher, student, scores, results, n_members, seed) for student in students}


def _pair(
    plan: Plan,
    teacher: Subject,
    student: Subject,
    scores: Scores,
    results: Mapping[str, AttackResult],
    n_members: int,
    seed: int,
) -> Supervision:
    facts, own = scores.likelihoods[teacher.checkpoint.fingerprint], scores.likelihoods[student.checkpoint.fingerprint]
    start, why_none = _start(plan, student, scores)
    starts = [] if start is None else _starts(teacher, start, scores)
    gain = own.mean_logprob if start is None else own.mean_logprob - start.mean_logprob
    read = [facts.mean_logprob, facts.mean_prob, facts.top_share, gain, *(one.mean_logprob for one in starts)]
    is_kept: Mask = np.logical_and.reduce([np.isfinite(values) for values in read])
    is_member = np.arange(is_kept.size) < n_members
    rng = generator(seed, f"mixed supervision {student.name}")
    given = None if start is None else -start.mean_logprob
    classes = [_alignment(facts, gain, given, is_kept & is_of_class, rng) for is_of_class in (is_member, ~is_member)]
    inside, outside = is_kept & is_member, is_kept & ~is_member
    return Supervision(
        gain_over="nothing" if start is None else "start",
        gain_note=why_none,
        members=classes[0],
        nonmembers=classes[1],
        quarters=gaps_by_quarter((facts.mean_prob[inside], facts.mean_prob[outside]), (gain[inside], gain[outside])),
        slopes=_slopes(own, facts, starts, is_kept, is_member, rng),
        two_by_two=_table(results, student.name),
    )


def _alignment(
    teacher: Likelihoods, gain: Floats, given: Floats | None, is_chosen: Mask, rng: np.random.Generator
) -> Alignment:
    probability = teacher.mean_prob[is_chosen]
    at_equal = None if given is None else given[is_chosen]
    return Alignment(
        n=int(is_chosen.sum()),
        teacher_mean_probability=mean_estimate(probability),
        teacher_top_choice_share=mean_estimate(teacher.top_share[is_chosen]),
        student_gain=mean_estimate(gain[is_chosen]),
        correlation=spearman(probability, gain[is_chosen], given=at_equal, rng=rng),
    )


def _slopes(
    student: Likelihoods,
    teacher: Likelihoods,
    starts: list[Likelihoods],
    is_kept: Mask,
    is_member: Mask,
    rng: np.random.Generator,
) -> Slopes:
    if not starts:
        n, m = int((is_kept & is_member).sum()), int((is_kept & ~is_member).sum())
        return Slopes(
            Estimate(None, n=n, reason=NO_START), Estimate(None, m=m, reason=NO_START),
            Difference(None, n=n, m=m, reason=NO_START),
        )  # fmt: skip
    difficulty = np.column_stack([*(one.mean_logprob for one in starts), np.log(np.maximum(student.n_tokens, 1))])
    return excess_slopes(
        student.mean_logprob[is_kept], teacher.mean_logprob[is_kept], difficulty[is_kept], is_member[is_kept], rng=rng
    )


def _start(plan: Plan, student: Subject, scores: Scores) -> tuple[Likelihoods | None, str]:
    """What the student's start makes of the records, or why the gain is over nothing."""
    if student.reference is None:
        return None, "no reference (the student's start) was given: the gain is the student's own mean log-likelihood"
    splits = [
        plan.passages.splits[plan.tokenizer_of[checkpoint.fingerprint]]
        for checkpoint in (student.checkpoint, student.reference)
    ]
    if splits[0] != splits[1]:
        return None, "the start has another tokenizer: the gain is the student's own mean log-likelihood"
    return scores.likelihoods[student.reference.fingerprint], ""


def _starts(teacher: Subject, start: Likelihoods, scores: Scores) -> list[Likelihoods]:
    """The student's start, and the teacher's where it was given and is another model."""
    of_teacher = None if teacher.reference is None else scores.likelihoods[teacher.reference.fingerprint]
    return [start] if of_teacher is None or of_teacher is start else [start, of_teacher]


def _table(results: Mapping[str, AttackResult], student: str) -> PairedDetections | None:
    for name in TABLE_ATTACKS:
        table = results[name].two_by_two.get(student) if name in results else None
        if table:
            return PairedDetections(name, table["members"], table["nonmembers"])
    return None
