"""A user's own template: it sees figures, it cannot touch anything, and its mistakes are its own."""

import re
from pathlib import Path

import pytest

import kdaudit
from kdaudit.errors import ConfigError
from kdaudit.report.reading import Report
from kdaudit.report.render import output_name, render_custom, render_html, render_markdown
from tests.report.reports import hostile, read, write_run


def rendered(report: Report, template: str, name: str = "mine.txt.j2") -> str:
    path = Path(name)
    path.write_text(template, encoding="utf-8")
    return render_custom(path, report)


def test_a_template_sees_the_page(leaky: Report) -> None:
    text = rendered(
        leaky, "{{ page.status }}: {% for run in page.runs %}{{ run.name }} {{ run.headline[0] }}{% endfor %}"
    )
    assert text.startswith("fail: leaky The strongest of 2 attacks on student is reference")


def test_a_template_may_build_on_kdaudits_own(leaky: Report) -> None:
    assert rendered(leaky, '{% include "report.md.j2" %}', "mine.md.j2") == render_markdown(leaky)
    assert rendered(leaky, '{% extends "report.html.j2" %}', "mine.html.j2") == render_html(leaky)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.html.j2", "&lt;b&gt;|"), ("a.md.j2", "&#60;b&#62;&#124;"), ("a.txt.j2", "<b>|"), ("a.tex.jinja", "<b>|")],
)
def test_values_are_escaped_for_what_the_template_makes(
    name: str, expected: str, leaky: Report, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "hostile" / "run", hostile("<b>|"))
    assert rendered(read(run, gates=()), "{{ page.runs[0].models.rows[0][1][:4] }}", name) == expected


@pytest.mark.parametrize(
    "attempt",
    [
        "{{ page.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ page.runs[0].headline.append('x') }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{% include '/etc/passwd' %}",
        "{% include '../pyproject.toml' %}",
        "{{ page.runs[0].path.unlink() }}",
        "{{ range(10**9) | list }}",
    ],
)
def test_a_template_reaches_neither_files_nor_the_interpreter(attempt: str, leaky: Report) -> None:
    with pytest.raises(ConfigError, match=r"--template: mine\.txt\.j2, line 1"):
        rendered(leaky, attempt)
    assert Path("leaky/results.json").exists()


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("a\n{{ page.nothing }}", r"line 2: .*no attribute 'nothing'"),
        ("a\nb\n{% if %}", "line 3"),
        ("{{ 1 / 0 }}", "line 1: division by zero"),
        ("{{ page.runs[0].name + 1 }}", "line 1"),
    ],
)
def test_a_mistake_is_named_with_its_line(template: str, words: str, leaky: Report) -> None:
    with pytest.raises(ConfigError, match=words):
        rendered(leaky, template)


def test_a_template_that_cannot_be_read_is_an_error_of_the_option(leaky: Report) -> None:
    with pytest.raises(ConfigError, match="--template: cannot read"):
        render_custom(Path("none.txt.j2"), leaky)
    Path("latin.txt.j2").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        render_custom(Path("latin.txt.j2"), leaky)


@pytest.mark.parametrize(
    "name", ["mine.html", "mine", ".j2", "results.json.j2", "manifest.json.j2", "report.html.j2", "report.xml.jinja"]
)
def test_a_template_never_replaces_itself_nor_a_file_of_kdaudit(name: str) -> None:
    with pytest.raises(ConfigError, match="--template"):
        output_name(Path(name))


def test_the_output_is_called_like_the_template() -> None:
    assert output_name(Path("some/where/board.html.j2")) == "board.html"


def test_the_template_of_the_documentation_says_what_it_promises(leaky: Report, two_runs: Report) -> None:
    page = (Path(kdaudit.__file__).parents[1] / ".github" / "docs" / "report.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```jinja\n(.*?)```", page, re.DOTALL)
    one = leaky.runs[0].result.verdict.sentence
    assert rendered(leaky, example).startswith(
        f"{one}\nleaky: fail. The strongest of 2 attacks on student is reference"
    )
    both = rendered(two_runs, example)
    assert both.startswith("Verdicts of 2 runs: fail: leaky; pass: better.\n")
    assert "\nbetter: pass. The strongest" in both


def test_a_template_of_an_earlier_version_finds_every_part_by_its_name(two_runs: Report) -> None:
    parts = [
        *("name", "path", "status", "status_words", "sentence", "next_step", "headline", "gates.rows", "figures"),
        *("missing", "detections", "supervision", "supervision_notes", "validity.rows", "trust", "notes", "utility"),
        *("models.rows", "data.rows", "versions.rows", "command", "pictures.levels", "pictures.curves"),
        *("pictures.scores", "pictures.supervision"),
    ]
    whole = ["comparison.rows", "compared", "kdaudit_version", "limits", *parts[2:6]]
    names = [f"page.runs[1].{part}" for part in parts] + [f"page.{part}" for part in whole]
    template = "".join(f"{{{{ {name} is defined }}}}" for name in names)
    assert rendered(two_runs, template, "mine.html.j2") == "True" * len(names)
