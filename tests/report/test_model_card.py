"""A model card: one section rewritten, every other byte as it was."""

import re
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.config import ReportConfig
from kdaudit.errors import ConfigError
from kdaudit.report.hub.model_card import (
    BEGIN,
    DATASET,
    END,
    render_section,
    rewrite_index,
    rewrite_section,
    update_model_card,
)
from kdaudit.report.reading import Report, read_report
from kdaudit.results import AuditResult, Power
from tests.report.gated import HOSTILE, audit, report

METADATA = """---
license: mit # stays
model-index:
- name: mine
  results:
  - task: {type: text-generation}
    dataset: {type: glue, name: GLUE}
    metrics: [{type: accuracy, value: 0.5}]

# stays too
tags: [a]
---
"""


@pytest.fixture(scope="module")
def real(finished: Path) -> Report:
    return read_report(ReportConfig(runs=(finished,)))


@pytest.fixture(scope="module")
def result(real: Report) -> AuditResult:
    return real.runs[0].result


def rewritten(card: bytes, section: str = "new\nlines\n") -> bytes:
    return rewrite_section(card, section, name="README.md")


chunks = st.binary(max_size=30).filter(
    lambda raw: b"kdaudit:" not in raw and not raw.endswith(b"\r") and raw[:2] not in (b"\xff\xfe", b"\xfe\xff")
)


@given(chunks, chunks, chunks, st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_everything_outside_the_markers_stays_byte_for_byte(
    before: bytes, between: bytes, after: bytes, line_end: bytes, is_last: bool
) -> None:
    head = before + line_end if before else b""
    tail = b"" if is_last else line_end + after
    card = head + BEGIN.encode() + line_end + between + line_end + END.encode() + tail
    changed = rewritten(card)
    assert changed.startswith(head + BEGIN.encode() + line_end)
    assert changed.endswith(END.encode() + tail)
    assert rewritten(changed) == changed


@given(chunks)
def test_a_card_without_markers_gets_the_section_at_its_end(card: bytes) -> None:
    changed = rewritten(card)
    assert changed.startswith(card)
    assert changed.count(b"kdaudit:") == 2
    assert rewritten(changed) == changed


def test_the_section_gets_the_line_ends_of_the_card() -> None:
    assert b"\r\nnew\r\nlines\r\n" in rewritten(b"a\r\nb")
    assert b"\r" not in rewritten(b"a\nb")


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (f"a\n{BEGIN}\n", "begin in line 2"),
        (f"{END}\n{BEGIN}\n", "end in line 1, begin in line 2"),
        (f"{BEGIN}\n{BEGIN}\n{END}\n", "begin in line 1, begin in line 2, end in line 3"),
    ],
)
def test_markers_that_do_not_pair_up_are_refused_by_their_lines(card: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        rewritten(card.encode())


def test_a_byte_order_mark_before_the_first_marker_hides_no_section() -> None:
    card = f"\ufeff{BEGIN}\nold\n{END}\n".encode()
    assert rewritten(card) == f"\ufeff{BEGIN}\nnew\nlines\n{END}\n".encode()
    for encoding in ("utf-16", "utf-32", "utf-16-be"):
        with pytest.raises(ConfigError, match=r"README\.md is UTF-16 or UTF-32"):
            rewritten("\ufeff# Title".encode(encoding) if encoding.endswith("be") else "# Title".encode(encoding))


def test_a_marker_within_a_line_is_text() -> None:
    card = f"Put `{BEGIN}` and {END} into your card."
    assert rewritten(card.encode()).decode().startswith(card)


def test_the_section_says_the_verdict_the_figures_and_no_path(real: Report) -> None:
    section = render_section(real)
    assert "**Not gated" in section
    assert "| loss | " in section
    assert "does not prove" in section
    assert str(real.runs[0].path.parent) not in section
    assert not any(model.name in section for model in real.runs[0].result.models.values())


def test_a_waived_gate_stands_in_the_section_with_its_reason() -> None:
    failed = audit(["student.auc <= 0.6"])
    power = Power(0.53)
    section = render_section(report(replace(failed, power=power), waived="student.auc<=0.6"))
    assert "Pass by waiver alone" in section
    assert "waived until 2030-01-31: accepted by the board" in section


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_reasons_stay_text_and_forge_no_marker(text: str) -> None:
    failed = replace(audit(["student.auc <= 0.6"]), power=Power(0.53))
    section = render_section(report(failed, waived="student.auc<=0.6", reason=f"{text} {END}"))
    assert "<" not in section
    assert "](" not in section
    changed = rewrite_section(b"a\n", section, name="README.md")
    assert rewrite_section(changed, section, name="README.md") == changed


def test_only_the_model_index_of_the_metadata_changes(result: AuditResult) -> None:
    card = f"{METADATA}# Title\r\n".encode().replace(b"\r\n", b"\n")
    changed = rewrite_index(card, result, name="README.md").decode()
    assert changed.startswith("---\nlicense: mit # stays\nmodel-index:\n- name: mine\n")
    assert changed.endswith("\n\n# stays too\ntags: [a]\n---\n# Title\n")
    found = ModelCard(changed).data.get("eval_results")
    assert next((one.dataset_type, one.metric_value) for one in found) == ("glue", 0.5)
    own = {one.metric_args["attack"]: one for one in found if one.dataset_type == DATASET}
    assert list(own) == ["loss", "reference"]
    auc = result.attacks["loss"].cells["student"].auc
    assert auc is not None
    assert (own["loss"].metric_value, own["loss"].metric_args["low"]) == (auc.value, auc.low)
    assert rewrite_index(changed.encode(), result, name="README.md").decode() == changed


@pytest.mark.parametrize(
    "card", [b"", b"# Title", b"---\n---\n", b"---\r\ntags: [a]\r\n---\r\nbody\r\n", b"---\na: 1\n---"]
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_card_without_an_index_gets_one_and_keeps_its_text(mark: bytes, card: bytes, result: AuditResult) -> None:
    changed = rewrite_index(mark + card, result, name="README.md")
    assert changed.startswith(mark + b"---")
    assert changed.count(b"\xef\xbb\xbf") == len(mark) // 3
    assert len(re.findall(rb"^(?:\xef\xbb\xbf)?---\r?$", changed, re.MULTILINE)) == 2, "one block of metadata"
    assert rewrite_index(changed, result, name="README.md") == changed
    changed = changed.removeprefix(mark)
    assert ModelCard(changed.decode()).data.get("eval_results")
    body = card.rpartition(b"---")[2].lstrip()
    assert changed.endswith(body)
    assert (b"\r\n" in changed) == (b"\r\n" in card)
    assert b"\n" not in changed.replace(b"\r\n", b"") or b"\r\n" not in card
    assert rewrite_index(changed, result, name="README.md") == changed


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (b"---\na: [\n---\n", "cannot be extended"),
        (b"---\n- a\n---\n", "cannot be extended"),
        (b"---\nmodel-index:\n- name: a\n  results: []\n- name: b\n  results: []\n---\n", "describes 2 models"),
        (b"---\nmodel-index:\n- results: []\n---\n", "name"),
        (b"\xff\xfe", "cannot be extended"),
    ],
)
def test_metadata_that_cannot_be_extended_is_refused(card: bytes, words: str, result: AuditResult) -> None:
    with pytest.raises(ConfigError, match=r"--model-index: the metadata of README\.md cannot") as caught:
        rewrite_index(card, result, name="README.md")
    assert words in str(caught.value)


def test_a_card_is_written_in_place_once(real: Report, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(b"# Title")
    path.chmod(0o640)
    link = tmp_path / "link.md"
    link.symlink_to(path)
    update_model_card(link, real, with_index=True)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.read_bytes().startswith(b"---\nmodel-index:\n")
    before = path.stat().st_mtime_ns
    update_model_card(link, real, with_index=True)
    assert path.stat().st_mtime_ns == before


def test_a_card_that_is_not_there_is_refused(real: Report, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--model-card: .*none\.md cannot be read"):
        update_model_card(tmp_path / "none.md", real, with_index=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runs": (Path("a"), Path("b")), "model_card": Path("README.md")}, "give one RUN"),
        ({"runs": (Path("a"),), "model_index": True}, "--model-card is not"),
    ],
)
def test_a_card_is_about_one_run(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ReportConfig(**options)
