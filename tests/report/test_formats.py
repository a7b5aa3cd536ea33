"""The table of formats."""

import subprocess
import sys
from datetime import date
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from kdaudit.config import ReportConfig
from kdaudit.errors import ConfigError
from kdaudit.report.formats import FORMATS, ReportFormat
from kdaudit.report.mitigation import read_mitigation
from kdaudit.report.reading import Report, read_report
from kdaudit.waivers import Waiver
from tests.commands import check_refused, kdaudit
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


def test_a_new_format_costs_one_file_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def render_pairs(report: Report) -> str:  # the file
        return "".join(f"{gate.gate}={gate.status}\n" for run in report.runs for gate in run.result.verdict.gates)

    module = ModuleType("kdaudit.report.pairs")
    vars(module)["render_pairs"] = render_pairs
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(FORMATS, "pairs", ReportFormat("report.txt", "pairs", "render_pairs"))
    run = write_run(tmp_path / "run", LEAKY)
    done = kdaudit("report", run, "--format", "pairs", "--gate", "student.auc <= 0.6")
    assert done.code == 1, done.err
    assert (run / "report.txt").read_text(encoding="utf-8") == "student.auc<=0.6=fail\n"
    check_refused(
        kdaudit("report", run, "--format", "pears"), "is none of html, md, json, csv, latex, sarif, junit, pairs"
    )


def test_every_renderer_is_there() -> None:
    for form in FORMATS.values():
        assert callable(getattr(import_module(f"kdaudit.report.{form.module}"), form.function))


def test_the_names_of_the_formats_cost_nothing_heavy() -> None:
    code = "import sys; import kdaudit.report.formats; print({'numpy', 'jinja2', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_unknown_formats_are_all_named_before_anything_is_read() -> None:
    config = ReportConfig(runs=(Path("nowhere"),), formats=("pdf", "md", "docx"))
    for read_config in (read_report, read_mitigation):
        with pytest.raises(ConfigError) as error:
            read_config(config)
        assert str(error.value).splitlines() == [
            "--format: 'pdf' is none of html, md, json, csv, latex, sarif, junit",
            "--format: 'docx' is none of html, md, json, csv, latex, sarif, junit",
        ]
