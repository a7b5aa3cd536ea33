"""How far a command has come, and how much work its stages are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kdaudit.ranks import ALONE, Rank

if TYPE_CHECKING:
    from kdaudit.audit.plan import Plan
    from kdaudit.distill.prepare import Prepared
    from kdaudit.mitigate.run import MitigationPlan

JUDGING_SHARE = 0.05
"""The share of an audit: resampling takes seconds, whatever the size of the models."""
BACKWARD = 3
"""How many passes that only read cost as much as a step of training."""


class Course:
    """The share of all expected work that is done.

    A stage is known by its name, or by what stands before the first colon in it: such a part counts once it has
    ended. Stages come in the order in which they are expected, so one that is never seen was finished before. All may
    come again and again, each with a larger share.
    """

    def __init__(self) -> None:
        self._work: dict[str, float] = {}
        self._shares: dict[str, float] = {}
        self._part, self._is_counted_whole = "", False
        self._share_of_part = self._measured = 0.0

    def expect(self, work: Mapping[str, float]) -> None:
        """Add stages behind those that are expected already."""
        for stage, amount in work.items():
            self._work[stage] = self._work.get(stage, 0.0) + amount

    def reach(self, stage: str, share: float) -> None:
        """A stage has come to a share of it; one that nobody expects changes nothing."""
        if stage in self._work:
            if stage == self._part:
                self._measured += max(0.0, share - self._share_of_part) * self._work[stage]
            self._enter(stage, is_counted_whole=False)
            self._share_of_part = self._shares[stage] = share
        elif (part := stage.partition(":")[0]) in self._work:
            self._enter(part, is_counted_whole=True)

    def _enter(self, part: str, *, is_counted_whole: bool) -> None:
        if part != self._part:
            if self._is_counted_whole:
                self._shares[self._part] = 1.0
            self._measured += self._work[self._part] if self._is_counted_whole else 0.0
            self._part, self._is_counted_whole, self._share_of_part = part, is_counted_whole, 0.0

    @property
    def share(self) -> float:
        """From 0 to 1."""
        total = sum(self._work.values())
        if not total or not self._part:
            return 0.0
        done, is_before = 0.0, True
        for stage, amount in self._work.items():
            is_before = is_before and stage != self._part
            done += self._shares.get(stage, 1.0 if is_before else 0.0) * amount
        return min(1.0, done / total)

    def seconds_left(self, elapsed: float) -> float | None:
        """What is left at the speed so far; None before any work was measured.

        Args:
            elapsed: seconds since the start. What an earlier run had finished does not count as fast work.
        """
        left = (1 - self.share) * sum(self._work.values())
        return elapsed * left / self._measured if self._measured > 0 else None


def audit_work(plan: Plan, rank: Rank = ALONE) -> dict[str, float]:
    """The work of every stage of an audit: tokens times the parameters of the model."""
    from kdaudit.audit.measure import stage_of
    from kdaudit.audit.run import JUDGING
    from kdaudit.audit.together import stage_of_all

    passes = {stage_of(one): float(one.n_tokens * one.checkpoint.n_parameters) for one in plan.passes}
    if rank.is_shard:
        return passes
    work = sum(passes.values())
    return {**({stage_of_all(rank): work} if rank.is_one_of_several else passes), JUDGING: JUDGING_SHARE * work}


def distill_work(prepared: Prepared) -> dict[str, float]:
    """The work of the stages of a distillation, likewise; what the teacher writes beforehand is not foreseen."""
    from kdaudit.distill.learn import TRAINING
    from kdaudit.distill.run import UTILITY

    models = prepared.models
    teacher, start = models.teacher.n_parameters, models.start.n_parameters
    taught = teacher if prepared.config.needs_teacher and prepared.config.teacher_cache is None else 0
    n_held_out = sum(one.passage.ids.size * one.n_passes for one in prepared.held_out.plans())
    return {
        TRAINING: float(prepared.plan.n_tokens * (BACKWARD * start + taught)),
        UTILITY: float(n_held_out * (2 * teacher + 3 * start)),  # each reads alone, teacher and student once together
    }


def mitigation_work(plan: MitigationPlan) -> dict[str, float]:
    """The work of every stage of a comparison, in tokens that train: those that score count in proportion."""
    from kdaudit.mitigate.run import JUDGING, SCORING, stage_of

    work = {**{stage_of(job): float(job.n_tokens) for job in plan.jobs}, SCORING: plan.scoring_tokens}
    return {**work, JUDGING: JUDGING_SHARE * sum(work.values())}
