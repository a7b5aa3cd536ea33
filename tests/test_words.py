"""What a user or a newcomer reads is written in whole, plain sentences: patterns that one must decode are refused."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATTERNS = {
    "a number is named, not pointed at": re.compile(r"\bso many\b"),
    "each X has its Y": re.compile(
        r"\b(a|one) (line|row|arm|seed|student|text|record) a (row|line|seed|student|run|record|arm)\b"
    ),
    "X is not a Y": re.compile(
        r"(?<!\b[Tt]here )\b(is|are|was|were) no (?!longer\b|more\b|less\b|other\b|worse\b|wider\b|better\b)[a-z]+"
    ),
    "a sentence has a subject": re.compile(r"^Of |[.:;] Of [a-z]"),
}


def texts() -> Iterator[tuple[str, str]]:
    """Every docstring, message and line of a page, with its place."""
    for path in sorted((ROOT / "kdaudit").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value
    pages = [ROOT / "README.md", *(ROOT / ".github").rglob("*.md"), *(ROOT / "templates").rglob("*.j2")]
    for path in sorted(pages):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            yield f"{path.relative_to(ROOT)}:{number}", line


@pytest.mark.parametrize("rule", PATTERNS)
def test_nothing_has_to_be_decoded(rule: str) -> None:
    assert [place for place, text in texts() if PATTERNS[rule].search(text)] == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("a number is named, not pointed at", "one token in so many"),
        ("each X has its Y", "a folder with a student a seed"),
        ("X is not a Y", "is no reference: it would cancel"),
        ("a sentence has a subject", "Of the method goldfish: one in four"),
    ],
)
def test_a_rule_finds_what_it_is_about(rule: str, text: str) -> None:
    assert PATTERNS[rule].search(text)
