"""Benchmarks of membership inference on the Hub, by name: which field is what, where nothing in the data says it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kdaudit.errors import HubError, RecordsError
from kdaudit.foreign import reason
from kdaudit.records import rows
from kdaudit.records.hub import SPEC
from kdaudit.records.layout import Layout
from kdaudit.records.rows import Problem, Row


@dataclass(frozen=True, slots=True)
class Labelled:
    """A benchmark whose records say themselves whether they are members."""

    text_field: str
    member_field: str


LABELLED = {"swj0419/WikiMIA": Labelled("input", "label"), "swj0419/BookMIA": Labelled("snippet", "label")}
"""Source: the cards of the data sets; Shi et al. 2024, arXiv:2310.16789."""
MIMIR = "iamgroot42/mimir"
"""Source: Duan et al. 2024, arXiv:2402.07841. Its files hold one JSON string in each
line; its loading script is not run."""
MIMIR_FILE = "cache_100_200_{size}_512/{side}/{config}{split}.jsonl"


def labelled(source: str) -> Labelled | None:
    """The benchmark that a source names, if it is one of `LABELLED`."""
    spec = SPEC.fullmatch(source)
    return LABELLED.get(spec["name"]) if spec else None


def is_mimir(source: str) -> bool:
    """Whether a source names a part of MIMIR: `hub:iamgroot42/mimir:CONFIG:SPLIT`."""
    spec = SPEC.fullmatch(source)
    return spec is not None and spec["name"] == MIMIR


def mimir_rows(source: str, label: str, layout: Layout) -> Iterator[tuple[bool, Row | Problem]]:
    """The records of a part of MIMIR, each with whether it is a member; every side is numbered from 1.

    Raises:
        RecordsError: the source lacks a configuration, or there is no such one.
        HubError: its files can neither be reached nor found in the local cache.
    """
    spec = SPEC.fullmatch(source)
    if spec is None or not spec["config"]:
        hint = f"for example hub:{MIMIR}:arxiv:ngram_13_0.8"
        raise RecordsError(f"{label}: MIMIR needs a source and a split", hint=hint)
    size = 10_000 if spec["config"] == "full_pile" else 1000
    split = "" if spec["split"] == "none" else f"_{spec['split']}"
    for side, is_member in (("train", True), ("test", False)):
        name = MIMIR_FILE.format(size=size, side=side, config=spec["config"], split=split)
        with open(_downloaded(name, label), "rb") as file:
            for row in rows.json_rows(file, label, layout):
                yield is_member, row


def _downloaded(name: str, label: str) -> str:
    from huggingface_hub import hf_hub_download  # heavy
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

    fetch = f"hf download --repo-type dataset {MIMIR} '{name}'"
    try:
        return hf_hub_download(MIMIR, name, repo_type="dataset")
    except LocalEntryNotFoundError as error:
        what = f"{label}: the data set cannot be reached and is not in the local cache"
        raise HubError(what, hint=f"where the Hub can be reached: {fetch}") from error
    except GatedRepoError as error:
        what = f"{label}: its authors ask you to accept their terms on the Hub first"
        raise HubError(what, hint=f"do so on its page, then: {fetch}") from error
    except EntryNotFoundError as error:
        hint = f"sources and splits are on its page, for example hub:{MIMIR}:arxiv:ngram_13_0.8"
        raise RecordsError(f"{label}: there is no {name} in the data set", hint=hint) from error
    except OSError as error:
        raise HubError(f"{label}: {reason(error)}", hint=f"try again, or: {fetch}") from error
