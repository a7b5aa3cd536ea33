"""Every picture of a report as a file for a paper, the same bytes every time; a name is drawn as it is."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kdaudit.report.charts.canvas import COLOURS, for_print
from kdaudit.report.charts.pictures import frontiers_of, pictures_of
from kdaudit.report.figures import render_figures, stem_of
from kdaudit.report.reading import Report, Run
from kdaudit.report.render import render_html
from kdaudit.results.mitigation import save
from tests.commands import check_refused, files_in, kdaudit
from tests.report.reports import LEAKY, write_run
from tests.report.tables import TABLE

NAME = r"_$x^2$ 50\% of_$"
"""What matplotlib would hide, set as a formula, or strip of its backslash."""
OF_A_RUN = Report((Run("run", Path("run"), LEAKY),))


def words_of(svg: str) -> list[str]:
    """The texts of a drawing, each without the spaces around it."""
    return [text.strip() for text in ElementTree.fromstring(svg).itertext() if text.strip()]


def test_every_picture_is_written_twice_under_a_name_that_says_what_it_shows() -> None:
    files = render_figures(OF_A_RUN)
    stems = [name.removesuffix(".svg") for name in files if name.endswith(".svg")]
    assert stems == [
        "auc-of-every-attack",
        "student-minus-teacher-auc",
        "roc-curves-of-reference-on-teacher-student",
        "roc-curves-of-loss-on-teacher-student",
        "scores-of-reference-on-teacher-student",
        "scores-of-loss-on-teacher-student",
        "alignment-and-gain-of-student",
        "mixed-supervision-of-student",
    ]
    assert [*files] == [f"{stem}.{suffix}" for stem in stems for suffix in ("svg", "pdf")]
    assert render_html(OF_A_RUN).count("<svg") == len(stems) + 1, "the first screen's is of the first picture's figures"
    for name, content in files.items():
        if name.endswith(".pdf"):
            assert content.startswith(b"%PDF")
            assert b"/Type3" not in content
            assert not re.search(rb"/(CreationDate|Producer|Creator)", content)
            continue
        root = ElementTree.fromstring(content)
        assert root.attrib["width"].endswith("pt")
        assert b"var(" not in content
        assert any(colour.encode() in content for colour in COLOURS)


def test_the_same_report_gives_the_same_bytes_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    first = render_figures(OF_A_RUN)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert render_figures(OF_A_RUN) == first


def test_a_page_costs_no_pdf() -> None:
    _, (drawn,) = pictures_of(OF_A_RUN)
    assert {picture.pdf for picture in (*drawn.levels, *drawn.curves, *drawn.scores)} == {b""}


def test_runs_and_attacks_with_like_names_have_files_of_their_own() -> None:
    attacks = {"min-k": LEAKY.attacks["loss"], "min-k++": LEAKY.attacks["reference"], "loss": LEAKY.attacks["loss"]}
    result = replace(LEAKY, attacks=attacks, strongest={})
    report = Report((Run("a/b", Path("x"), result), Run("a b", Path("y"), result)))
    files = render_figures(report)
    stems = {name.rpartition(".")[0] for name in files}
    assert {"the-strongest-attack-of-every-run", "a-b-auc-of-every-attack", "a-b-auc-of-every-attack-2"} <= stems
    assert [stem_of(words) for words in ("min-k++", "min-k", "../..", "中", "A" * 300)] == [
        "min-k-plus-plus", "min-k", "picture", "picture", "a" * 80,
    ]  # fmt: skip


@pytest.mark.filterwarnings("error")
def test_a_name_with_signs_of_formulas_is_drawn_as_it_is_in_every_picture() -> None:
    result = replace(
        LEAKY, attacks={NAME: LEAKY.attacks["reference"], "loss": LEAKY.attacks["loss"]}, strongest={},
        verdict=replace(OF_A_RUN.runs[0].result.verdict),
    )  # fmt: skip
    report = Report((Run(NAME, Path("x"), result), Run("other", Path("y"), LEAKY)))
    with for_print():
        compared, each = pictures_of(report)
        (alone,) = pictures_of(Report((report.runs[0],)))[1]
        arms = {NAME if name == "bottleneck" else name: arm for name, arm in TABLE.arms.items()}
        frontiers = frontiers_of(replace(TABLE, arms=arms))
    drawn = [picture for of in (*each, alone) for picture in (*of.levels, *of.curves, *of.scores, *of.supervision)]
    assert all(picture.pdf for picture in (*compared, *drawn, *frontiers))
    for picture in (*compared, *alone.levels):
        assert NAME in words_of(picture.svg), picture.title
    assert frontiers
    for picture in frontiers:
        assert NAME in words_of(picture.svg), picture.title
    assert any(NAME in picture.title for picture in drawn)


def test_figures_are_written_into_their_folder_for_audits_and_for_mitigations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = write_run(Path("run"), LEAKY)
    done = kdaudit("report", run, "--format", "json", "--figures", "paper/figures")
    assert done.code == 0, done.err
    assert "written: run/report.json, paper/figures" in done.err
    assert files_in(Path("paper/figures")) == dict(sorted(render_figures(OF_A_RUN).items()))

    compared = Path("compared")
    compared.mkdir()
    save(TABLE, compared / "mitigation.json")
    assert kdaudit("report", compared, "--format", "json", "--figures", "paper").code == 0
    assert {path.name for path in Path("paper").glob("*.pdf")} == {
        name for name in render_figures(TABLE) if name.endswith(".pdf")
    }
    assert Path("paper/auc-of-loss-against-held-out-loss.pdf").is_file()

    Path("a-file").write_text("x")
    check_refused(
        kdaudit("report", run, "--figures", "a-file"), "--figures: a-file", "choose another folder with --figures"
    )
    check_refused(kdaudit("report", run, "--each", "--figures", "f"), "--figures: --each writes every report beside")
