"""Records and sets of them: what they are, the digests that stand for them, and sets beside each other."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations

import numpy as np
from numpy.typing import NDArray

from kdaudit.errors import RecordsError
from kdaudit.records.record import Record
from kdaudit.records.store import chosen, column

Places = NDArray[np.intp]

SHOWN_PAIRS = 5
ID_DIGITS = 16  # hex digits of a keyed id: 64 bits, two of 100,000 texts collide once in 4 billion sets


@dataclass(frozen=True, slots=True)
class RecordSet:
    """The distinct texts of one source or of several, in their order."""

    option: str
    """The option that named the sources, for messages: `--members`."""
    source: str
    """As a message calls it: several are joined."""
    records: Sequence[Record]
    n_duplicates: int
    """Texts that stood in the source again and were dropped."""
    sha256: str
    """A hash over the ids and texts in order; it changes when anything that is scored changes.

    It says nothing about files: the same records in one file or in several, packed or not, have the same hash."""
    sources: tuple[str, ...] = ()
    """Each source as the user named it; empty where that is `source`."""
    notes: tuple[str, ...] = ()
    """What a reader must know about how the records were read."""
    n_empty: int = 0
    """Empty texts that were left out, as --skip-empty asks."""

    @property
    def named(self) -> tuple[str, ...]:
        """Each source as the user named it."""
        return self.sources or (self.source,)

    @property
    def forms(self) -> Mapping[str, int]:
        """How many records there are of each form."""
        return Counter(column(self.records, "form"))


def digest(records: Iterable[Record]) -> str:
    """SHA-256 over ids and texts in order, as 64 hex digits; every part is length-prefixed."""
    sha = hashlib.sha256()
    for record in records:
        sha.update(_prefixed(record.id))
        sha.update(_prefixed(record.text))
        for place in (*((record.n_prompt,) if record.n_prompt else ()), *chain.from_iterable(record.gaps)):
            sha.update(place.to_bytes(8, "big"))
    return sha.hexdigest()


def fingerprints(strings: Iterable[str]) -> NDArray[np.bytes_]:
    """(n,), 128 bits that stand for each string: 16 bytes are held instead of it."""
    return np.array([fingerprint(one) for one in strings], dtype="S16")


def fingerprint(string: str) -> bytes:
    """128 bits that stand for a string."""
    return hashlib.blake2b(string.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def keyed_ids(texts: Sequence[str]) -> list[str]:
    """An id for each text, from a key that only the holder of all the texts can derive.

    Run folders show ids. A plain hash would let anyone with one candidate text find out whether it is in
    the set; the key is a MAC over the whole set instead, so the same file gives the same ids and a single
    text gives nothing. It has its own domain, so the published digest of the set does not reveal it.

    Args:
        texts: n distinct texts of one set, in order; each can be encoded as UTF-8.
    """
    whole = hmac.new(b"kdaudit/record-key/1", digestmod=hashlib.sha256)
    for text in texts:
        whole.update(_prefixed(text))
    key = whole.digest()
    return [hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:ID_DIGITS] for text in texts]


def _prefixed(part: str) -> bytes:
    raw = part.encode()
    return len(raw).to_bytes(8, "big") + raw


def check_disjoint(sets: Sequence[RecordSet]) -> None:
    """Refuse a text that stands in two sets, and an id that stands for two texts.

    Raises:
        RecordsError: one error for all pairs of sets, with the counts and the first lines of both sources.
    """
    shared, clashing = [], []
    known = [(fingerprints(column(one.records, "text")), fingerprints(column(one.records, "id"))) for one in sets]
    for (first, (texts, ids)), (second, (other_texts, other_ids)) in combinations(zip(sets, known, strict=True), 2):
        _, places, others = np.intersect1d(texts, other_texts, return_indices=True)
        if places.size:
            shared.append(_pairs("one text stands", "texts stand", first, second, places, others))
        _, places, others = np.intersect1d(ids, other_ids, return_indices=True)
        differ = texts[places] != other_texts[others]
        if differ.any():
            clashing.append(
                _pairs(
                    "one id stands for different texts", "ids stand for different texts", first, second,
                    places[differ], others[differ],
                )
            )  # fmt: skip
    if shared:
        hint = "a text is either a member or not: remove it from one of the files"
        raise RecordsError("\n".join(shared + clashing), hint=hint)
    if clashing:
        hint = "make the ids unique over all files, or leave them out: a record without an id gets a keyed hash"
        raise RecordsError("\n".join(clashing), hint=hint)


def check_alike(members: RecordSet, nonmembers: RecordSet) -> None:
    """Refuse a form of records that stands in one set alone: chats beside texts, or prompts beside none.

    The completion alone is scored where a record has a prompt: the two sets would differ in what is scored of them.
    Sets that were drawn from one source may differ by chance.

    Raises:
        RecordsError: naming the set that lacks the form.
    """
    has_prompt = [any(column(found.records, "n_prompt")) for found in (members, nonmembers)]
    hint = "give both in the same form, else the two differ in what is scored, not in membership"
    if len(set(has_prompt)) > 1:
        prompted, plain = (members, nonmembers) if has_prompt[0] else (nonmembers, members)
        raise RecordsError(
            f"{prompted.option} {prompted.source} holds prompts, of which the completions alone are scored, and "
            f"{plain.option} {plain.source} holds none",
            hint=hint,
        )
    if members.named == nonmembers.named:
        return
    for one, other in ((members, nonmembers), (nonmembers, members)):
        known = other.forms
        for form, n in one.forms.items():
            if form not in known:
                raise RecordsError(
                    f"{one.option} {one.source} holds {n} records in the form of a {form}, and {other.option} "
                    f"{other.source} holds none",
                    hint=hint,
                )


def notes_on(sets: Iterable[RecordSet]) -> tuple[str, ...]:
    """What a reader must know about how some sets were read."""
    found: dict[str, None] = {}
    for one in sets:
        found |= dict.fromkeys(one.notes)
        forms = one.forms
        if len(forms) > 1:
            counts = ", ".join(f"{n} in the form of a {form}" for form, n in sorted(forms.items()))
            scored = "; with a prompt, the answer alone counts" if any(column(one.records, "n_prompt")) else ""
            found[f"{one.option} {one.source} mixes forms of records: {counts}{scored}"] = None
    return tuple(found)


def sample(records: Sequence[Record], count: int, *, rng: np.random.Generator) -> Sequence[Record]:
    """`count` records drawn without replacement, in their original order; all of them where there are fewer."""
    if count >= len(records):
        return records
    return chosen(records, np.sort(rng.choice(len(records), size=count, replace=False)))


def draw_shots(nonmembers: RecordSet, n: int, *, rng: np.random.Generator) -> tuple[Sequence[Record], RecordSet]:
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
    taken = {record.id for record in shots}
    kept = [place for place, own_id in enumerate(column(nonmembers.records, "id")) if own_id not in taken]
    rest = chosen(nonmembers.records, kept)
    left = replace(nonmembers, records=rest, sha256=digest(rest))
    return shots, left


def _pairs(one: str, many: str, first: RecordSet, second: RecordSet, places: Places, others: Places) -> str:
    """Say that records of two sets clash, and where the first of them stand."""
    what = one if places.size == 1 else f"{places.size} {many}"
    order = np.lexsort((others, places))[:SHOWN_PAIRS]
    found = zip(chosen(first.records, places[order]), chosen(second.records, others[order]), strict=True)
    head = ", ".join(f"{a.place} and {b.place}" for a, b in found)
    more = f" and {places.size - SHOWN_PAIRS} more" if places.size > SHOWN_PAIRS else ""
    return f"{what} in both {first.option} {first.source} and {second.option} {second.source}: lines {head}{more}"
