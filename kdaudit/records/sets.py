"""Sets of records beside each other: disjoint, sampled, split."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from kdaudit.errors import RecordsError
from kdaudit.records.record import Record, RecordSet, digest

if TYPE_CHECKING:
    import numpy as np

SHOWN_PAIRS = 5


def check_disjoint(sets: Sequence[RecordSet]) -> None:
    """Refuse a text that stands in two sets, and an id that stands for two texts.

    Raises:
        RecordsError: one error for all pairs of sets, with the counts and the first lines of both sources.
    """
    shared, clashing = [], []
    for first, second in combinations(sets, 2):
        by_text = {record.text: record.line for record in first.records}
        texts = sorted((by_text[record.text], record.line) for record in second.records if record.text in by_text)
        if texts:
            shared.append(_pairs("one text stands", "texts stand", first, second, texts))
        by_id = {record.id: record for record in first.records}
        ids = sorted(
            (by_id[record.id].line, record.line)
            for record in second.records
            if record.id in by_id and by_id[record.id].text != record.text
        )
        if ids:
            clashing.append(
                _pairs("one id stands for different texts", "ids stand for different texts", first, second, ids)
            )
    if shared:
        hint = "a text is either a member or not: remove it from one of the files"
        raise RecordsError("\n".join(shared + clashing), hint=hint)
    if clashing:
        hint = "make the ids unique over all files, or leave them out: a record without an id gets a keyed hash"
        raise RecordsError("\n".join(clashing), hint=hint)


def check_alike(members: RecordSet, nonmembers: RecordSet) -> None:
    """Refuse members that have prompts beside non-members that have none, or the other way round.

    The completion alone is scored where a record has a prompt: the two sets would differ in what is scored of them.

    Raises:
        RecordsError: naming the set without prompts.
    """
    with_prompt = {found: any(record.n_prompt for record in found.records) for found in (members, nonmembers)}
    if len(set(with_prompt.values())) > 1:
        (prompted,) = (found for found, has_any in with_prompt.items() if has_any)
        (plain,) = (found for found, has_any in with_prompt.items() if not has_any)
        raise RecordsError(
            f"{prompted.option} {prompted.source} holds prompts, of which the completions alone are scored, and "
            f"{plain.option} {plain.source} holds none",
            hint="give both in the same form, else the two differ in what is scored, not in membership",
        )


def sample(records: Sequence[Record], count: int, *, rng: np.random.Generator) -> tuple[Record, ...]:
    """`count` records drawn without replacement, in their original order; all of them where there are fewer."""
    if count >= len(records):
        return tuple(records)
    return tuple(records[i] for i in sorted(rng.choice(len(records), size=count, replace=False).tolist()))


def draw_shots(nonmembers: RecordSet, n: int, *, rng: np.random.Generator) -> tuple[tuple[Record, ...], RecordSet]:
    """Take `n` records out for the prefix of prefix attacks.

    Returns:
        The shots, in the source's order, and the set without them, which is what gets evaluated.

    Raises:
        RecordsError: no record would be left.
    """
    if n >= len(nonmembers.records):
        raise RecordsError(
            f"{nonmembers.option} {nonmembers.source}: {n} shots would leave none of its "
            f"{len(nonmembers.records)} records",
            hint="give the shots by --shots FILE, or fewer by --n-shots",
        )
    shots = sample(nonmembers.records, n, rng=rng)
    taken = {record.line for record in shots}
    rest = tuple(record for record in nonmembers.records if record.line not in taken)
    left = RecordSet(nonmembers.option, nonmembers.source, rest, nonmembers.n_duplicates, digest(rest))
    return shots, left


def _pairs(one: str, many: str, first: RecordSet, second: RecordSet, lines: Sequence[tuple[int, int]]) -> str:
    what = one if len(lines) == 1 else f"{len(lines)} {many}"
    head = ", ".join(f"{a} and {b}" for a, b in lines[:SHOWN_PAIRS])
    more = f" and {len(lines) - SHOWN_PAIRS} more" if len(lines) > SHOWN_PAIRS else ""
    return f"{what} in both {first.option} {first.source} and {second.option} {second.source}: lines {head}{more}"
