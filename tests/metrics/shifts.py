"""Ways in which one set of texts can differ from another although nobody was trained on it, and prose to shift."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

Shift = Callable[[str, np.random.Generator], str]

LIBRARIES = ("numpy", "scipy", "sklearn", "matplotlib")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"
CONFUSED = {"rn": "m", "l": "1", "e": "c", "i": "l", "o": "0", "s": "5", "h": "b", "a": "o", "t": "f", "n": "u"}


def prose() -> list[str]:
    """Distinct paragraphs of English that people wrote: the docstrings of the libraries that kdaudit needs anyway."""
    found: dict[str, None] = {}
    for library in LIBRARIES:
        spec = importlib.util.find_spec(library)
        assert spec is not None
        assert spec.origin is not None
        for path in sorted(Path(spec.origin).parent.rglob("*.py")):
            if "tests" not in path.parts:
                found.update(dict.fromkeys(_paragraphs(path)))
    return list(found)


def _paragraphs(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for block in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                text = re.sub("`+", '"', " ".join(block.split()))
                is_sentence = re.match(r"[A-Z][a-z]", text) and text.endswith(".")
                if is_sentence and 100 <= len(text) <= 600 and not re.search(r">>>|\.\. |:param|--|==|\|", text):
                    yield text


def _typo(text: str, rng: np.random.Generator) -> str:
    """One letter inside a word of four or more becomes another."""
    at = _inside(text, rng)
    others = LETTERS.replace(text[at].lower(), "")
    return text[:at] + others[rng.integers(len(others))] + text[at + 1 :]


def _characters_swapped(text: str, rng: np.random.Generator) -> str:
    at = _inside(text, rng, is_fit=lambda i: text[i] != text[i + 1])
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def _words_swapped(text: str, rng: np.random.Generator) -> str:
    words = text.split(" ")
    at = int(rng.integers(1, len(words) - 2))
    words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join(words)


def _name_put_in(text: str, rng: np.random.Generator) -> str:
    words = text.split(" ")
    letters = (kind[rng.integers(len(kind))] for kind in (CONSONANTS, VOWELS) * 3)
    name = "".join(letters).capitalize()
    words.insert(int(rng.integers(1, len(words))), name)
    return " ".join(words)


def _word_doubled(text: str, rng: np.random.Generator) -> str:
    words = text.split(" ")
    at = int(rng.integers(1, len(words) - 1))
    return " ".join([*words[: at + 1], *words[at:]])


def _misread(text: str, rng: np.random.Generator) -> str:
    """Optical character recognition takes one letter for another that looks like it."""
    places = [(found.start(), seen) for seen in CONFUSED for found in re.finditer(rf"(?<=[a-z]){seen}(?=[a-z])", text)]
    at, seen = places[rng.integers(len(places))]
    return text[:at] + CONFUSED[seen] + text[at + len(seen) :]


def _curly(text: str, rng: np.random.Generator) -> str:
    text = re.sub(r"(^|[\s(\[])\"", "\\1\u201c", text).replace('"', "\u201d")
    return re.sub(r"(^|[\s(\[])'", "\\1\u2018", text).replace("'", "\u2019")


def _fixed_space(text: str, rng: np.random.Generator) -> str:
    places = [found.start() for found in re.finditer(" ", text)]
    at = places[rng.integers(len(places))]
    return f"{text[:at]}\u00a0{text[at + 1 :]}"


def _cut_short(text: str, rng: np.random.Generator) -> str:
    return text[: int(len(text) * rng.uniform(0.75, 0.95))]


def _inside(text: str, rng: np.random.Generator, is_fit: Callable[[int], bool] = lambda _: True) -> int:
    """The place of a letter that is neither the first nor one of the last two of its word."""
    words = re.finditer(r"[A-Za-z]{4,}", text)
    places = [i for found in words for i in range(found.start() + 1, found.end() - 2) if is_fit(i)]
    return places[rng.integers(len(places))]


NAMED: Mapping[str, Shift] = {
    "a trailing space": lambda text, rng: f"{text} ",
    "two spaces after a full stop": lambda text, rng: re.sub(r"\.(?= |$)", ". ", text),
    "one typo": _typo,
    "two neighbouring characters swapped": _characters_swapped,
    "two neighbouring words swapped": _words_swapped,
    "one invented name": _name_put_in,
    "curly quotes": _curly,
}
"""Those by which a review broke an earlier check."""

FOUND: Mapping[str, Shift] = {
    "a carriage return at the end": lambda text, rng: f"{text}\r\n",
    "one non-breaking space": _fixed_space,
    "a lower-cased first letter": lambda text, rng: text[0].lower() + text[1:],
    "no final full stop": lambda text, rng: text.removesuffix("."),
    "one doubled word": _word_doubled,
    "one misread letter": _misread,
    "a cut end": _cut_short,
}
