"""The page that every renderer walks: what is shown where, and that all formats show the same."""

import html
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from kdaudit.cli import output
from kdaudit.report.blocks import Block, Detail, Notes, Paragraph, Pictures, Section, Table, Verbatim, shown
from kdaudit.report.mitigation import mitigation_page
from kdaudit.report.page import Page, report_page, result_page
from kdaudit.report.reading import Report
from kdaudit.report.render import render_html, render_markdown, render_summary
from tests.report.tables import TABLE

WIDE = Table("Wide", ["name", "figure", "hash"], [["a", "1", "f0"]], right=[1], hashes=[2], extra=[2])


def all_blocks(page: Page, most: Detail) -> list[Block]:
    """Every block of a detail, in order, sections opened."""
    found: list[Block] = []

    def walk(blocks: Sequence[Block]) -> None:
        for block in blocks:
            found.append(block)
            if isinstance(block, Section):
                walk(block.blocks)

    walk(shown([*page.short.blocks, *page.sections], most))
    return found


def test_a_detail_holds_those_before_it_and_leaves_out_what_would_be_empty() -> None:
    blocks: list[Block] = [
        Paragraph("always"),
        Paragraph("document", detail=Detail.DOCUMENT),
        Paragraph("whole", detail=Detail.WHOLE),
        Notes([]),
        Pictures([], detail=Detail.TERMINAL),
        Verbatim([]),
        Section("Empty", "empty", [Paragraph("whole", detail=Detail.WHOLE)]),
    ]
    told = [[block.text for block in shown(blocks, most) if isinstance(block, Paragraph)] for most in Detail]
    assert told == [["always"], ["always", "document"], ["always", "document", "whole"]]
    assert [len(shown(blocks, most)) for most in Detail] == [1, 2, 4]


def test_extra_columns_are_shown_with_everything_alone() -> None:
    assert WIDE.at(Detail.WHOLE) is WIDE
    narrow = WIDE.at(Detail.DOCUMENT)
    assert (narrow.head, narrow.rows, narrow.right, narrow.hashes) == (["name", "figure"], [["a", "1"]], [1], [])


def test_markdown_folds_only_where_everything_is_shown() -> None:
    section = Section("Long", "long", [Paragraph("text")], folded_in="markdown")
    assert [block.folded_in for most in Detail for block in shown([section], most) if isinstance(block, Section)] == [
        "", "", "markdown",
    ]  # fmt: skip


def plain_text(text: str) -> str:
    """What a reader sees of a document or a terminal: words with single spaces."""
    seen = html.unescape(re.sub(r"<[^>]+>", " ", text)).replace("\N{NO-BREAK SPACE}", " ")
    return " ".join(seen.replace("|", " ").split())


def said(page: Page, most: Detail) -> list[str]:
    """Every statement and every cell of the page."""
    found: list[str] = []
    for block in all_blocks(page, most):
        if isinstance(block, Table):
            found += [block.title, block.note, *block.head, *(cell for row in block.rows for cell in row)]
        elif isinstance(block, Notes):
            found += [block.title, *block.lines]
        elif isinstance(block, Paragraph):
            found.append(block.text)
        elif isinstance(block, Section):
            found.append(block.title)
    return [plain_text(text) for text in found if text]


def missing_from(text: str, page: Page, most: Detail) -> list[str]:
    shown_text = plain_text(text)
    return [words for words in said(page, most) if words not in shown_text]


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_every_format_of_an_audit_says_the_same(
    leaky: Report, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # no cell is broken then
    (run,) = leaky.runs
    page, short = report_page(leaky, with_pictures=False), result_page(run.result)
    assert len(said(page, Detail.TERMINAL)) > 150
    assert missing_from(render_html(leaky), page, Detail.WHOLE) == []
    assert missing_from(render_markdown(leaky), page, Detail.WHOLE) == []
    assert missing_from(render_summary(run.result), short, Detail.DOCUMENT) == []
    output.print_result(run.result, Path("run"), is_quiet=True)
    assert missing_from(printed(capsys), short, Detail.TERMINAL) == []


def test_every_format_of_a_comparison_says_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    page = mitigation_page(TABLE, with_pictures=False)
    assert missing_from(render_html(TABLE), page, Detail.WHOLE) == []
    assert missing_from(render_markdown(TABLE), page, Detail.WHOLE) == []
    output.print_mitigation(TABLE, [])
    assert missing_from(printed(capsys), page, Detail.TERMINAL) == []
