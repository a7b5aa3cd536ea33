"""The HTML page: self-contained, readable by everyone, and safe whatever a name holds."""

import csv
import io
import re
from base64 import b64decode
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import matplotlib
import pytest

from kdaudit.report.formats import FORMATS
from kdaudit.report.reading import Report
from kdaudit.report.render import as_css, render_html
from tests.conftest import Golden
from tests.report.reports import LEAKY, hostile, read, write_run

HOSTILE = (
    "<script>alert(1)</script>", "</title></style><script>alert(1)</script>", "a|b", "%0A::error::x", "]]>",
    "--><img src=x onerror=alert(1)>", "\u202egnp.exe\u2066", "$x$ \\frac{", "{{ 7 * 7 }}", "\" onfocus=alert(1) x='",
    "javascript:alert(1)", "&lt;script&gt;", "x" * 10_000,
)  # fmt: skip
FETCHING = {"script", "link", "img", "iframe", "object", "embed", "form", "base", "image", "foreignobject"}
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Every element with its attributes, and the text of the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(page)
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def html_of(report: Report) -> Page:
    return Page(render_html(report))


def test_nothing_is_run_and_nothing_is_fetched(leaky: Report, two_runs: Report) -> None:
    for report in (leaky, two_runs):
        page = html_of(report)
        assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base"} & {
            tag for tag, _ in page.elements
        }
        policy = next(meta for meta in page.of("meta") if meta.get("http-equiv") == "Content-Security-Policy")
        assert policy["content"] is not None
        assert policy["content"].startswith("default-src 'none'; style-src 'unsafe-inline'")
        for _, attributes in page.elements:
            for name, value in attributes.items():
                assert not name.startswith("on")
                assert name not in {"src", "srcset", "action", "ping"}
                assert name not in {"href", "xlink:href"} or str(value).startswith(("#", "data:text/csv;base64,"))
        style = "".join(page.text)
        assert "url(http" not in style
        assert "@import" not in style


def test_every_anchor_and_label_points_to_one_element_that_is_there(leaky: Report, two_runs: Report) -> None:
    for report in (leaky, two_runs):
        text, page = render_html(report), html_of(report)
        ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
        assert set(ids.values()) == {1}
        links = [str(at[name]) for _, at in page.elements for name in ("href", "xlink:href") if name in at]
        wanted = {link.lstrip("#") for link in links if not link.startswith("data:")}
        wanted |= {str(at["aria-labelledby"]) for _, at in page.elements if "aria-labelledby" in at}
        wanted |= set(re.findall(r"url\(#([^)]+)\)", text))
        assert wanted <= set(ids)


def test_it_can_be_read_without_sight_and_without_a_mouse(leaky: Report) -> None:
    page = html_of(leaky)
    assert page.of("html")[0]["lang"] == "en"
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in page.elements}
    assert len(page.of("table")) == len(page.of("caption"))
    assert all(heading.get("scope") in {"col", "row"} for heading in page.of("th"))
    assert all(picture.get("role") == "img" and picture.get("aria-label") for picture in page.of("svg"))
    assert all(area.get("tabindex") == "0" for area in page.of("div") if area.get("class") == "scroll")
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    first_link = page.of("a")[0]
    assert (first_link["class"], first_link["href"]) == ("skip", "#main")


def test_a_reader_with_two_minutes_finds_the_verdict_first(leaky: Report) -> None:
    text = " ".join(" ".join(html_of(leaky).text).split("What was measured")[0].split())
    verdict = leaky.runs[0].result.verdict
    order = ("Fail: 1 of 3", "93 times in 100", "What to do", verdict.sentence, "Limits", "The strongest of 2 attacks")
    body = text[text.index("To the report") :]
    places = [body.index(words) for words in order]
    assert places == sorted(places)
    assert verdict.next_step in text


def test_what_the_issue_of_a_leak_needs_is_all_there(leaky: Report) -> None:
    page = html_of(leaky)
    text = " ".join(page.text)
    for words in (
        "realised FPR", "Teacher × student: records called members", "Mixed supervision", "blind baseline (tfidf)",
        "blind classifier surface",
        "smallest AUC that this run could have told from 0.5", "Held-out utility of student", "What this does not show",
        "0a" * 32, "ab" * 32, "2.13.0", "3 under loss, reference", "needs 2999 non-members", "no reference model",
    ):  # fmt: skip
        assert words in text, words
    labels = [str(picture["aria-label"]) for picture in page.of("svg")]
    for start in (
        "ROC curves of reference",
        "AUC of every attack",
        "Student minus teacher",
        "Scores of loss",
        "Alignment",
    ):
        assert any(label.startswith(start) for label in labels), start
    assert "./my  student" in text, "the command is the one that was run"


def test_without_a_manifest_no_command_is_made_up(leaky: Report) -> None:
    Path("leaky/manifest.json").unlink()
    assert "The command is not known" in render_html(read(Path("leaky")))


def shape(name: str, folder: Path) -> tuple[list[tuple[str, tuple[str, ...]]], str]:
    """The elements with their attributes on a page in which everything is called `name`, and its text."""
    page = html_of(read(write_run(folder / "run", hostile(name)), gates=()))
    drawn = {"path", "g", "use", "defs"}
    return [(tag, tuple(attributes)) for tag, attributes in page.elements if tag not in drawn], "".join(page.text)


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, tuple[str, ...]]]:
    elements, _ = shape("harmless", tmp_path_factory.mktemp("harmless"))
    return elements


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_changes_no_element_and_no_attribute(
    name: str, harmless: list[tuple[str, tuple[str, ...]]], tmp_path: Path
) -> None:
    elements, text = shape(name, tmp_path)
    assert elements == harmless
    assert not {"\u202e", "\u2066"} & set(text)


def test_the_page_of_ten_attacks_on_three_models_stays_below_600_kilobytes(tmp_path: Path) -> None:
    names = ("loss", "zlib", "reference", "min-k", "min-k++", "recall", "gap-k", "ez", "wbc", "lowercase")
    one = LEAKY.attacks["reference"]
    fpr = tuple(place / 199 for place in range(200))
    curve = replace(one.curves["teacher"], fpr=fpr, tpr=fpr, tpr_low=fpr, tpr_high=fpr)
    attack = replace(
        one,
        cells=dict.fromkeys(("teacher", "student", "student-2"), one.cells["student"]),
        comparison=dict.fromkeys(("student", "student-2"), one.comparison["student"]),
        curves=dict.fromkeys(("teacher", "student", "student-2"), curve),
        histograms=dict.fromkeys(("teacher", "student", "student-2"), one.histograms["student"]),
    )
    models = {**LEAKY.models, "student-2": LEAKY.models["student"]}
    result = replace(LEAKY, models=models, attacks=dict.fromkeys(names, attack))
    assert len(render_html(read(write_run(tmp_path / "run", result))).encode()) < 600_000


@pytest.mark.parametrize("form", ["html", "md", "json"])
def test_a_leaky_student_is_reported_as_agreed(form: str, leaky: Report, golden: Golden) -> None:
    golden.check(f"report/{FORMATS[form].file}", FORMATS[form].render(leaky))


def test_two_runs_are_compared_as_agreed(two_runs: Report, golden: Golden) -> None:
    golden.check("report/two_runs.md", FORMATS["md"].render(two_runs))


def test_runs_are_drawn_on_one_scale(two_runs: Report) -> None:
    page = render_html(two_runs)
    forests = re.findall(r'<svg[^>]*aria-label="AUC of every attack\. .*?</svg>', page, re.DOTALL)
    assert len(forests) == 2
    ticks = [re.findall(r"<text[^>]*>([0-9.]+)</text>", forest) for forest in forests]
    assert ticks[0] == ticks[1]


def test_a_users_matplotlibrc_changes_nothing(leaky: Report) -> None:
    expected = render_html(leaky)
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.fonttype": "path"}):
        assert render_html(leaky) == expected


def test_the_figures_of_every_attack_can_be_taken_from_the_page(leaky: Report) -> None:
    page = html_of(leaky)
    (link,) = (link for link in page.of("a") if "download" in link)
    table = b64decode(str(link["href"]).partition("base64,")[2]).decode()
    rows = list(csv.DictReader(io.StringIO(table)))
    auc = [row for row in rows if (row["attack"], row["model"], row["metric"]) == ("reference", "student", "auc")]
    assert [float(row["value"]) for row in auc if row["part"] == "level"] == [0.93]
    assert {row["part"] for row in rows} == {"level", "difference"}


def test_a_reader_can_pick_an_attack_a_model_and_what_did_not_pass(leaky: Report) -> None:
    text, page = render_html(leaky), html_of(leaky)
    assert [one.get("name") for one in page.of("input") if one["type"] == "radio"] == [*["attack"] * 4, *["model"] * 3]
    rows = [row["data-a"] for row in page.of("tr") if "data-a" in row]
    assert {*rows} == {"0", "1", "2"}
    head = text[text.index('">AUC with 95') :]
    assert '<th scope="col" data-m="0">teacher</th><th scope="col" data-m="1">student</th>' in head
    assert '<th scope="col" data-m="1">student − teacher</th><th scope="col" data-m="1">p (Holm)</th>' in head
    assert 'body:has(.pick-a-1:checked) [data-a]:not([data-a="1"])' in text
    assert [row["data-s"] for row in page.of("tr") if "data-s" in row] == ["fail", "pass", "inconclusive"]


def test_a_name_in_the_foot_of_a_printed_page_ends_no_rule() -> None:
    assert as_css('a"; } </style>') == "a\\22 \\3b \\20 \\7d \\20 \\3c \\2f style\\3e "
