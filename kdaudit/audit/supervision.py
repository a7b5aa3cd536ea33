"""Mixed supervision: does the student gain most where its teacher agreed with the ground truth?

Source: arXiv:2505.11837. On vulnerable records the teacher's soft labels repeat the hard labels, so that the student is
told the same thing twice and grows over-confident. Here the mechanism is measured on the audited pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from kdaudit.audit.plan import Plan, Subject
from kdaudit.audit.scoring import Floats, Scores
from kdaudit.draws import generator
from kdaudit.metrics.association import Correlation, mean_estimate, spearman
from kdaudit.metrics.estimate import Estimate
from kdaudit.results import AttackResult

TABLE_ATTACKS = ("reference", "loss")
"""Whose detections fill the 2 x 2 table: the first one that ran on both models."""


def describe_supervision(
    plan: Plan, scores: Scores, results: Mapping[str, AttackResult], *, n_members: int, seed: int
) -> dict[str, Any]:
    """Per student: alignment of the teacher, gain of the student, their rank correlation, and the 2 x 2 table."""
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
) -> dict[str, Any]:
    teacher_facts = scores.facts[teacher.checkpoint.fingerprint]
    own = scores.facts[student.checkpoint.fingerprint].mean_logprob
    start, why_none = _start(plan, student, scores)
    values = {
        "teacher_mean_probability": teacher_facts.mean_prob,
        "teacher_top_choice_share": teacher_facts.top_share,
        "student_gain": own if start is None else own - start,
    }
    needed = [*values.values(), *([start] if start is not None else [])]
    is_kept = np.logical_and.reduce([np.isfinite(found) for found in needed])
    classes = {"members": slice(None, n_members), "nonmembers": slice(n_members, None)}
    rng = generator(seed, f"mixed supervision {student.name}")
    described: dict[str, Any] = {
        "gain_over": "start" if start is not None else "nothing",
        "gain_note": why_none,
        "gain_unit": "nats per token",
    }
    for kind, part in classes.items():
        kept = is_kept[part]
        of_class = {name: found[part][kept] for name, found in values.items()}
        described[kind] = {
            "n": int(kept.sum()),
            **{name: _figure(mean_estimate(found)) for name, found in of_class.items()},
            "spearman": _figure(spearman(of_class["teacher_mean_probability"], of_class["student_gain"], rng=rng)),
        }
        if start is not None:
            described[kind]["spearman_given_start_loss"] = _figure(
                spearman(
                    of_class["teacher_mean_probability"], of_class["student_gain"], given=-start[part][kept], rng=rng
                )
            )
    described["two_by_two"] = _table(results, student.name)
    return described


def _figure(found: Estimate | Correlation) -> dict[str, Any]:
    names = ("value", "low", "high", "n", "level", "method", "reason")
    return {name: getattr(found, name) for name in names}


def _start(plan: Plan, student: Subject, scores: Scores) -> tuple[Floats | None, str]:
    """The start's mean log-likelihoods, or why the gain is over nothing."""
    if student.reference is None:
        return None, "no reference (the student's start) was given: the gain is the student's own mean log-likelihood"
    splits = [
        plan.passages.splits[plan.tokenizer_of[checkpoint.fingerprint]]
        for checkpoint in (student.checkpoint, student.reference)
    ]
    if splits[0] != splits[1]:
        return None, "the start has another tokenizer: the gain is the student's own mean log-likelihood"
    return scores.facts[student.reference.fingerprint].mean_logprob, ""


def _table(results: Mapping[str, AttackResult], student: str) -> dict[str, Any] | None:
    for name in TABLE_ATTACKS:
        table = results[name].two_by_two.get(student) if name in results else None
        if table:
            return {"attack": name, **{kind: asdict(counts) for kind, counts in table.items()}}
    return None
