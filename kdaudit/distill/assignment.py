"""Who is a member and who is held out: settled by the seed, before any training."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace

import numpy as np

from kdaudit.distill.settings import DistillConfig
from kdaudit.draws import generator
from kdaudit.errors import RecordsError
from kdaudit.manifest import record_id
from kdaudit.records import Record, RecordSet, check_alike, check_disjoint, sample


@dataclass(frozen=True, slots=True)
class Assignment:
    """The records that the student is trained on and those that it never sees."""

    members: tuple[Record, ...]
    held_out: tuple[Record, ...]
    left_out: tuple[Record, ...] = ()
    """Members of which the student is to learn nothing."""

    @property
    def trained(self) -> tuple[Record, ...]:
        """The members that the student is trained on."""
        left_out = {record.text for record in self.left_out}
        return tuple(record for record in self.members if record.text not in left_out)


def assign(config: DistillConfig, train: RecordSet, nonmembers: RecordSet | None) -> Assignment:
    """Split the training file by the rule of `config`, or take the non-members from their own file.

    Args:
        config: the rule and the seed.
        train: the training file.
        nonmembers: the file of records that neither model saw, if there is one.

    Raises:
        RecordsError: a side would be empty, the count is larger than the file, or the files share a text.
    """
    records = _limited(train.records, config, "limit train")
    if nonmembers is not None:
        check_disjoint((train, nonmembers))
        check_alike(train, nonmembers)
        return Assignment(records, _limited(nonmembers.records, config, "limit non-members"))
    is_held = _held_out(config, len(records), f"--train {train.source}")
    n_held = int(is_held.sum())
    if n_held in {0, len(records)}:
        side = "no record is held out" if n_held == 0 else f"all {n_held} records are held out"
        consequence = "nothing could be audited" if n_held == 0 else "nothing is left to train on"
        raise RecordsError(
            f"--train {train.source}: {side} under {_rule_words(config)}: {consequence}",
            hint="give another --holdout, a larger file, or non-members of their own by --nonmembers FILE",
        )
    return Assignment(
        tuple(record for record, held in zip(records, is_held, strict=True) if not held),
        tuple(record for record, held in zip(records, is_held, strict=True) if held),
    )


def leave_out(assignment: Assignment, left_out: Container[str], key: bytes) -> Assignment:
    """The same records, of which the student is not to learn those members whose keyed ids are in `left_out`.

    Raises:
        RecordsError: no member is left to train on.
    """
    found = tuple(record for record in assignment.members if record_id(key, record.text) in left_out)
    if len(found) == len(assignment.members):
        raise RecordsError(f"all {len(found)} members are left out: nothing is left to train on")
    return replace(assignment, left_out=found)


def parse_holdout(text: str) -> float | int:
    """A share (any number with a point or exponent: 0.2, 1.0) or a count (500).

    Raises:
        RecordsError: it is neither.
    """
    try:
        found = int(text) if text.strip().lstrip("+-").isdigit() else float(text)
    except ValueError:
        found = -1
    if (isinstance(found, float) and not 0 <= found <= 1) or found < 0:
        raise RecordsError(
            f"--holdout: '{text}' is neither a share nor a count", hint="--holdout 0.2 for a fifth, --holdout 500"
        )
    return found


def _held_out(config: DistillConfig, n: int, label: str) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """(n,), True for records that are held out."""
    if config.coins:
        return generator(config.records_seed, "coins").random(n) < 0.5
    wanted = parse_holdout(config.holdout_rule or "")
    count = round(wanted * n) if isinstance(wanted, float) else wanted
    if count > n:
        raise RecordsError(f"{label}: --holdout {count} is more than its {n} records", hint="give a smaller --holdout")
    is_held = np.zeros(n, dtype=bool)
    is_held[generator(config.records_seed, "holdout").choice(n, size=count, replace=False)] = True
    return is_held


def _limited(records: tuple[Record, ...], config: DistillConfig, name: str) -> tuple[Record, ...]:
    return records if config.limit is None else sample(records, config.limit, rng=generator(config.records_seed, name))


def _rule_words(config: DistillConfig) -> str:
    return "--coins" if config.coins else f"--holdout {config.holdout_rule}"
