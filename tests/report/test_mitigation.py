"""The report on a comparison of mitigations: agreed files, and what a reader is told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kdaudit.metrics.estimate import Difference
from kdaudit.report import mitigation_card
from kdaudit.report.charts.pictures import draw_frontier
from kdaudit.report.formats import FORMATS
from kdaudit.report.mitigation import mitigation_page, notes, sentences
from kdaudit.report.mitigation_tables import arms_table, frontier_table, gates_table
from kdaudit.report.render import CUT, MAX_MARKDOWN, render_html, render_markdown
from kdaudit.results import Source
from kdaudit.results.mitigation import Arm, load, save
from kdaudit.verdict import parse_gate
from kdaudit.verdict.mitigation import judge_arms
from tests.commands import check_refused, kdaudit
from tests.conftest import Golden
from tests.report.tables import TABLE, TOO_FEW
from tests.report.test_html import FETCHING, Page

HOSTILE = "<script>alert(1)</script>|`x`](http://example.org)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(TABLE, tmp_path / "mitigation.json")
    return tmp_path


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if form.is_for_mitigations])
def test_a_comparison_is_reported_as_agreed(name: str, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdaudit.__version__", "0.1.0")
    golden.check(f"mitigation/{FORMATS[name].file}", FORMATS[name].render(TABLE))


def test_the_findings_are_told_in_sentences_and_the_arm_to_take_is_linked() -> None:
    assert list(sentences(TABLE)) == [
        "Recommended: non-vulnerable, of the arms that pass every gate the most useful (non-vulnerable/seed-0).",
        "Its gates are on all members, also those left out of its training; over the members that stayed its AUC is "
        "0.950 [0.930, 0.970].",
        "non-vulnerable: a smaller leak than that of a plain checkpoint that is no more useful, for every group of "
        "members (helps).",
        "bottleneck: no smaller leak than that of a plain checkpoint that is no more useful (undertrained).",
        "non-vulnerable-control moves the risk: less for dropped, more for kept.",
        "no-norm: no evidence, its held-out loss is below that of every plain checkpoint.",
        "A longer plain run would tell: the same command with --plain-epochs 2,6.",
        "non-vulnerable is not told apart from non-vulnerable-control, which leaves out as many members at random: "
        "+0.015 [-0.006, +0.033] at equal held-out loss.",
        *(
            f"{name}: over the members that stay in training alone its AUC is 0.950 [0.930, 0.970], the plain run's "
            "0.800 [0.780, 0.820] (first seed). They are exposed more: +0.150 [+0.120, +0.180]."
            for name in ("non-vulnerable", "non-vulnerable-control")
        ),
        "Mixed supervision: the members that the teacher gives away exceed the other members, at equal difficulty, by "
        "+0.293 [+0.270, +0.320] nats per token in the plain run and by +0.255 [+0.230, +0.280] in hard-only. The "
        "difference is +0.038 [+0.026, +0.051]: the teacher's word exposes them more than the ground truth alone.",
    ]
    assert next(sentences(replace(TABLE, recommended=None))) == "No arm passes every gate."


@pytest.mark.parametrize(
    ("apart", "words"),
    [
        (Difference(-0.05, -0.07, -0.03), "non-vulnerable leaks less than non-vulnerable-control"),
        (Difference(0.05, 0.03, 0.07), "non-vulnerable leaks more than non-vulnerable-control"),
        (
            Difference(None, reason="why"),
            "non-vulnerable cannot be held against non-vulnerable-control, which leaves out as many members at random: "
            "why.",
        ),
        (Difference(-0.05, -0.07, -0.03, reason="one seed"), "non-vulnerable cannot be held against"),
    ],
)
def test_choosing_is_held_against_chance(apart: Difference, words: str) -> None:
    arm = TABLE.arms["non-vulnerable"]
    placed = {"loss": {**arm.placed["loss"], "auc": replace(arm.placed["loss"]["auc"], vs_control=apart)}}
    table = replace(TABLE, arms={**TABLE.arms, "non-vulnerable": replace(arm, placed=placed)})
    assert any(line.startswith(words) for line in sentences(table))


def test_a_failed_validity_check_stands_before_everything() -> None:
    assert TABLE.validity is not None
    failed = replace(TABLE, validity=replace(TABLE.validity, status="failed"))
    told = list(sentences(failed))
    assert "no finding below means anything" in told[0]
    assert not [line for line in told if "exposed" in line or "at random" in line or "but on or above" in line]


def test_rows_are_means_over_seeds_and_a_seed_without_a_value_is_not_measured() -> None:
    rows = {row[0]: row for row in arms_table(TABLE).rows}
    assert [*rows] == [
        "plain-2", "early-stop-1", "plain, epoch 2", "plain", "non-vulnerable", "non-vulnerable-control", "bottleneck",
        "no-norm",
    ]  # fmt: skip
    assert rows["plain, epoch 2"][1:6] == ("on the frontier", "3.300", "1.100", "0.750", "-0.100")
    assert rows["plain"][5] == "–"
    assert rows["non-vulnerable"][1:] == (
        "helps, recommended",
        "3.400",
        "1.133",
        "0.600",
        "-0.250",
        "-0.100 [-0.130, -0.070]",
        "kept -0.080 [-0.110, -0.050]",
        "0.004",
    )
    assert rows["plain-2"][1:5] == ("on the frontier", "3.420", "1.140", "0.660")
    one, other = TABLE.arms["bottleneck"].students
    lacking = replace(other, nll=replace(other.nll, value=None))
    arms = {**TABLE.arms, "bottleneck": replace(TABLE.arms["bottleneck"], students=(one, lacking))}
    assert {row[0]: row for row in arms_table(replace(TABLE, arms=arms)).rows}["bottleneck"][2] == "not measured"


@pytest.mark.parametrize("taken", ["plain", "early-stop-1"])
def test_an_epoch_of_the_plain_run_may_be_the_arm_to_take(taken: str) -> None:
    rows = arms_table(replace(TABLE, recommended=taken)).rows
    assert [row[:2] for row in rows if "recommended" in row[1]] == [(taken, "on the frontier, recommended")]


def test_the_picture_has_a_line_of_epochs_and_a_marker_an_arm_that_is_not_on_it() -> None:
    chart = draw_frontier(TABLE, "loss", "auc")
    assert chart is not None
    for label in ("plain run", "a plain run of 2 epochs", "non-vulnerable", "non-vulnerable-control", "bottleneck"):
        assert f">{label}<" in chart.svg
    assert "early-stop-1" not in chart.svg
    assert draw_frontier(TABLE, "loss", "tpr@0.01") is None
    assert {row[6] for row in frontier_table(TABLE, "loss", "tpr@0.01").rows} == {TOO_FEW}
    rows = frontier_table(TABLE, "loss", "auc").rows
    assert [row[2] for row in rows if row[0] == "non-vulnerable"] == ["all", "kept", "dropped"]


def test_gates_and_notes_are_shown_where_there_are_any() -> None:
    shown = gates_table(TABLE)
    assert shown is not None
    assert shown.rows[2] == ("non-vulnerable", "student.auc[loss]<=0.8", "pass", "1 of 1", "upper 0.620", "")
    assert "99.29 %" in shown.note
    assert notes(TABLE)[0] == "be careful"
    assert gates_table(replace(TABLE, arms={n: replace(a, gates=()) for n, a in TABLE.arms.items()})) is None


def test_a_gate_is_one_row_an_arm_of_the_seed_that_is_worst_off() -> None:
    arm = TABLE.arms["plain"]
    cells = {**arm.attacks["loss"].cells, "student": TABLE.arms["bottleneck"].attacks["loss"].cells["student"]}
    mixed = replace(arm, attacks={"loss": replace(arm.attacks["loss"], cells=cells)})
    gates = [parse_gate("student.auc[loss]<=0.8"), parse_gate("teacher.auc[loss]<=0.8")]
    shown = gates_table(judge_arms(replace(TABLE, arms={"plain": mixed}), gates))
    assert shown is not None
    again = gates_table(judge_arms(replace(TABLE, arms={"plain": mixed}), [*gates, gates[0]]))
    assert again == shown, "a gate that is given twice is one gate"
    assert [row[:5] for row in shown.rows] == [
        ("plain", "student.auc[loss]<=0.8", "fail", "1 of 2", "lower 0.836"),
        ("plain", "teacher.auc[loss]<=0.8", "pass", "–", "upper 0.717"),
    ]


def test_names_that_a_file_decides_are_harmless_in_every_format() -> None:
    arms = {HOSTILE: replace(TABLE.arms["bottleneck"], reason=HOSTILE, warnings=(HOSTILE,))}
    hostile = replace(TABLE, arms=arms, recommended=HOSTILE, warnings=(HOSTILE,))
    page = Page(render_html(hostile))
    assert not {tag for tag, _ in page.elements} & FETCHING
    text = render_markdown(hostile)
    assert "<script" not in text
    assert "](http" not in text


def test_report_reads_a_comparison_like_a_run_and_ends_with_its_code(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "reports"
    for run in (folder, folder / "mitigation.json"):
        done = kdaudit("report", run, "--out", out, "--format", "html,md,json")
        assert done.code == 0, done.err
        assert "Recommended: non-vulnerable" in done.out
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json", "report.md"]
    assert load(out / "report.json") == TABLE
    save(replace(TABLE, recommended=None), folder / "mitigation.json")
    assert kdaudit("report", folder, "--out", out).code == 1
    assert kdaudit("report", folder, "--out", out, "--exit-zero").code == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--gate", "student.auc[zlib]<=1"], "attacked by loss, not by zlib"),
        (["--gate", "student-2.auc<=1"], "there is no student-2"),
        (["--model-card", "README.md"], "--model-card"),
        (["--baseline", "x"], "--baseline"),
        (["--policy", "edpb"], "--policy"),
        (["--format", "sarif"], "--format sarif: not for a comparison"),
        (["--template", "x.md.j2"], "--template"),
        (["another"], "report on it by itself"),
    ],
)
def test_what_is_for_audits_is_refused(folder: Path, options: list[str], words: str) -> None:
    check_refused(kdaudit("report", folder, *options), words)
    assert [path.name for path in folder.iterdir()] == ["mitigation.json"]


def test_gates_are_judged_again_from_the_file_alone(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "reports"
    done = kdaudit("report", folder, "--out", out, "--format", "json", "--gate", "student.auc[loss] <= 0.9")
    assert (done.code, load(out / "report.json").recommended) == (0, "plain")
    assert "Recommended: plain" in done.out
    done = kdaudit("report", folder, "--out", out, "--format", "json", "--gate", "student.auc[loss] <= 0.5")
    assert (done.code, load(out / "report.json").recommended) == (1, None)
    assert load(out / "report.json").config["gates"] == ["student.auc[loss]<=0.5"]
    assert load(folder / "mitigation.json") == TABLE


def test_gates_of_the_configuration_file_count_and_its_waivers_do_not(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    waiver = '[[waivers]]\ngate = "student.auc[loss] <= 0.5"\nreason = "r"\nexpires = 2999-01-01\n'
    Path("kdaudit.toml").write_text(f'gates = ["student.auc[loss] <= 0.5"]\n{waiver}', encoding="utf-8")
    done = kdaudit("report", folder)
    assert done.code == 1
    assert "the waivers of kdaudit.toml do not count here: only an arm" in done.out
    done = kdaudit("report", folder, "--gate", "student.auc[loss] <= 0.9")
    assert done.code == 0
    assert "the gates of the command line replace the 1 of kdaudit.toml" in done.out


def test_inside_github_the_step_summary_gets_the_comparison(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    done = kdaudit("report", folder)
    assert done.out.startswith("::stop-commands::")
    assert summary.read_text(encoding="utf-8") == (folder / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("where", ["leaks", "attacks"])
def test_a_share_above_one_is_a_broken_file(folder: Path, where: str) -> None:
    layout = json.loads((folder / "mitigation.json").read_text())
    arm = layout["arms"]["bottleneck"]
    figure = arm["students"][1]["leaks"]["loss"] if where == "leaks" else arm["attacks"]["loss"]["cells"]["student"]
    figure["auc"]["high"] = 1.5
    (folder / "mitigation.json").write_text(json.dumps(layout))
    check_refused(kdaudit("report", folder), "arms.bottleneck", "auc.high is 1.5, outside 0 to 1")


def test_options_for_audits_in_the_configuration_file_are_left_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = 'baseline = "no-such-run"\nmodel_card = "README.md"\nformats = ["sarif", "md"]\n'
    Path("kdaudit.toml").write_text(content, encoding="utf-8")
    out = tmp_path / "reports"
    done = kdaudit("report", folder, "--out", out)
    assert done.code == 0, done.err
    assert [path.name for path in out.iterdir()] == ["report.md"]
    check_refused(kdaudit("report", folder, "--baseline", "x"), "--baseline")


@pytest.mark.parametrize("lost", ["teacher", "student-2"])
def test_an_arm_without_the_cell_of_a_seed_is_a_broken_file(folder: Path, lost: str) -> None:
    layout = json.loads((folder / "mitigation.json").read_text())
    del layout["arms"]["plain"]["attacks"]["loss"]["cells"][lost]
    (folder / "mitigation.json").write_text(json.dumps(layout))
    done = kdaudit("report", folder, "--gate", "student.auc <= 0.7")
    check_refused(done, f"arms.plain.attacks.loss.cells has no {lost}")


def test_the_wide_interval_of_two_seeds_is_no_broken_file(folder: Path) -> None:
    arm = TABLE.arms["bottleneck"]
    groups = arm.placed["loss"]["auc"].groups
    far = replace(groups["all"], distance=Difference(-0.1, -1.4, 1.2))
    wide = replace(arm.placed["loss"]["auc"], groups={**groups, "all": far}, vs_control=Difference(0, -2.5, 2.5))
    placed = {"loss": {**arm.placed["loss"], "auc": wide}}
    save(replace(TABLE, arms={**TABLE.arms, "bottleneck": replace(arm, placed=placed)}), folder / "mitigation.json")
    done = kdaudit("report", folder)
    assert done.code == 0, done.err
    layout = json.loads((folder / "mitigation.json").read_text())
    layout["arms"]["bottleneck"]["placed"]["loss"]["auc"]["groups"]["all"]["distance"]["value"] = -1.4
    (folder / "mitigation.json").write_text(json.dumps(layout))
    check_refused(kdaudit("report", folder), "distance.value is -1.4, outside -1 to 1")


@pytest.mark.parametrize(("key", "value"), [("nll", 1e300), ("nll", -1.0), ("leak", 1.5)])
def test_a_point_that_cannot_be_is_a_broken_file(folder: Path, key: str, value: float) -> None:
    layout = json.loads((folder / "mitigation.json").read_text())
    layout["frontier"]["loss"]["auc"][0][key] = value
    (folder / "mitigation.json").write_text(json.dumps(layout))
    check_refused(kdaudit("report", folder), f"frontier.loss.auc[0].{key} is")


def test_markdown_of_many_arms_fits_into_a_comment_and_says_what_it_left_out() -> None:
    arm = TABLE.arms["bottleneck"]
    wide = replace(
        TABLE,
        recommended=None,
        arms={f"arm-{i}-{'x' * 30}": replace(arm, students=arm.students * 3) for i in range(60)},
    )
    text = render_markdown(wide)
    assert len(text.encode()) <= MAX_MARKDOWN
    assert "This text is cut to what a comment can hold" in text
    assert "Every frontier" not in text
    assert "| arm-59-" in text
    vast = replace(TABLE, recommended=None, arms={f"arm-{i}": arm for i in range(900)})
    assert len(render_markdown(vast).encode()) <= MAX_MARKDOWN
    assert CUT in render_markdown(vast)


def test_the_first_screen_says_which_student_to_take_and_what_it_changes() -> None:
    page = mitigation_page(replace(TABLE, measured="2026-11-26"), with_pictures=False)
    card = page.verdict
    assert card is not None
    assert (card.status, card.title) == ("pass", "Take non-vulnerable: it keeps every limit")
    assert "60 times in 100 with non-vulnerable, and 85 times with the plain student" in card.plain[0]
    assert "measured 26 Nov 2026" in page.about
    assert [tile.value for tile in mitigation_card.tiles(TABLE)] == ["0.600", "3.400", "1 of 4 arms", "Comparable"]


def test_an_arm_that_nobody_should_relax_about_is_not_green() -> None:
    chosen = TABLE.arms["non-vulnerable"]

    def tone(arm: Arm) -> str:
        arms = {**TABLE.arms, "non-vulnerable": arm}
        return mitigation_card.verdict_card(replace(TABLE, arms=arms), "", None).tone

    assert tone(chosen) == "inconclusive", "those who stay are exposed more"
    harmless = replace(chosen, kept_change={})
    assert tone(harmless) == "pass"
    assert tone(replace(harmless, finding="undertrained")) == "inconclusive"
    assert tone(replace(harmless, finding="undertrained", is_plain=True)) == "pass", "stopping earlier is no mitigation"


def test_without_an_arm_to_take_it_fails_and_where_the_sets_differ_nothing_is_decided() -> None:
    failed = mitigation_card.verdict_card(replace(TABLE, recommended=None), "", None)
    assert (failed.tone, failed.title) == ("fail", "Fail: no arm keeps every limit")
    assert failed.steps[0].words == "Publish none of these students under these limits."
    ungated = replace(TABLE, recommended=None, arms={name: replace(arm, gates=()) for name, arm in TABLE.arms.items()})
    assert mitigation_card.verdict_card(ungated, "", None).title == "No limit was set: 1 of 4 arms found to help"
    invalid = replace(TABLE, validity=replace(TABLE.validity, status="failed"))
    card = mitigation_card.verdict_card(invalid, "", None)
    assert card.title == "No verdict: the two sets differ in more than membership"
    assert "times in 100" not in card.plain[0]
    assert "They differ" in [tile.value for tile in mitigation_card.tiles(invalid)]


def test_its_picture_shows_the_limit_the_arm_to_take_and_every_name_at_its_point() -> None:
    picture = draw_frontier(TABLE, "loss", "auc")
    assert picture is not None
    for words in (">limit 0.8<", ">recommended<", ">non-vulnerable<", ">bottleneck<", ">no-norm<"):
        assert picture.svg.count(words) == 1, words
    assert "<title>bottleneck: 0.550 at 3.550 nats per token, undertrained</title>" in picture.svg
    assert "Recommended: non-vulnerable, AUC 0.600 at 3.400 nats per token" in picture.svg


def test_it_can_be_repeated_from_what_it_says() -> None:
    table = replace(
        TABLE, command="kdaudit mitigate --from './my  student'", versions={"torch": "2.13.0"},
        data=replace(TABLE.data, sources=(Source("--train", "members.jsonl", 500, 1, "cd" * 32),)),
    )  # fmt: skip
    text = render_html(table)
    for words in ("./my  student", "2.13.0", "members.jsonl", "cd" * 32, "500 held-out records"):
        assert words in text, words
    assert "an earlier version made this table" in render_html(TABLE)


def test_what_was_not_measured_is_a_line_and_no_empty_table() -> None:
    text = render_markdown(TABLE)
    assert f"TPR at 1 % FPR of loss: {TOO_FEW}" in text
    assert "Frontier by TPR at 1 % FPR of loss" not in text
    assert "Not measured" in text
