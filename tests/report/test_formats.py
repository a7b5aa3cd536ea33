"""The table of formats."""

from datetime import date
from pathlib import Path

import pytest

from kdaudit.report.formats import FORMATS
from kdaudit.waivers import Waiver
from tests.report.gated import HOSTILE
from tests.report.reports import LEAKY, read, write_run


def test_no_two_formats_share_a_file() -> None:
    assert len({form.file for form in FORMATS.values()}) == len(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("text", HOSTILE)
def test_a_waived_gate_is_shown_in_every_format_and_its_reason_stays_text(name: str, text: str, tmp_path: Path) -> None:
    waiver = Waiver("student.auc <= 0.6", f"agreed by Kim {text}", date(2030, 1, 31), Path("kdaudit.toml"), 3)
    report = read(write_run(tmp_path / "leaky", LEAKY), gates=["student.auc <= 0.6"], waivers=(waiver,))
    assert report.status == "pass"
    written = FORMATS[name].render(report)
    assert "waived" in written.lower()
    assert "agreed by Kim" in written
    assert not {"\x1b", "\x00", "\u202e", "\r"} & set(written)
    if name in {"html", "md", "junit"}:
        assert "<script" not in written
        assert "]]>" not in written
