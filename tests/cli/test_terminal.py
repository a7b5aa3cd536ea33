"""What stands on a real terminal: bars that stay one line, tables that fit, and no figure that is broken."""

import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from kdaudit.cli import progress
from kdaudit.cli.course import Course
from kdaudit.cli.layout import (
    WHOLE,
    cut_from_left,
    one_below_the_other,
    said_once,
    side_by_side,
    without_interval,
    wrap,
)
from kdaudit.cli.progress import StageBars, clock
from tests.cli.terminals import SIZES, Drawn, python
from tests.commands import FINISHED, Given

STAGES = """
import time
from kdaudit.cli.progress import StageBars
with StageBars(is_shown=True) as bars:
    bars.expect({"teacher, plain": 3.0, "a-student-with-a-very-long-name-of-its-own, lowercase": 1.0})
    for stage in ("teacher, plain", "a-student-with-a-very-long-name-of-its-own, lowercase"):
        for done in range(0, 2001, 200):
            bars.update(stage, done, 2000, "loss 2.345")
            time.sleep(0.02)
print("the result")
"""
RESULT = """
from pathlib import Path
from tests.report.reports import LEAKY, GATES
from kdaudit.cli import output
from kdaudit.verdict import judge, parse_gate
from dataclasses import replace
verdict = judge(LEAKY.attacks, LEAKY.validity, [parse_gate(gate) for gate in GATES])
output.print_result(replace(LEAKY, verdict=verdict), Path("run"), is_quiet=True)
"""
AUDIT = """
from kdaudit.cli.main import main
from tests.commands import fewer_resamples
with fewer_resamples():
    main({!r})
"""
TIMES = re.compile(r" *[\d-]+:[\d-]{2}:[\d-]{2}  *[\d-]+:[\d-]{2}:[\d-]{2} left")


@pytest.fixture(scope="module", params=SIZES, ids=["80x24", "120x40"])
def bars(request: pytest.FixtureRequest) -> tuple[int, Drawn]:
    return request.param[1], python(STAGES, size=request.param)


def test_a_bar_is_one_line_with_times_of_a_fixed_width(bars: tuple[int, Drawn]) -> None:
    width, found = bars
    assert found.code == 0, found.raw
    rows = [line for line in found.lines if line.endswith("left")]
    assert len(rows) > 4
    assert max(map(len, rows)) <= width
    assert all(TIMES.fullmatch(row[-8 - 1 - 8 - 5 :]) for row in rows), rows


def test_there_is_one_bar_for_all_and_one_for_what_runs(bars: tuple[int, Drawn]) -> None:
    _, found = bars
    frames = re.split(r"\r\x1b\[2K(?:\x1b\[1A\x1b\[2K)*", found.raw)
    assert max(frame.count("left") for frame in frames) == 2
    assert any("total" in frame and "teacher, plain" in frame for frame in frames)
    assert not any("teacher, plain" in frame and "lowercase" in frame for frame in frames)
    assert any("…" in frame and "own, lowercase" in frame for frame in frames), "a name is cut from the left"


def test_finished_stages_are_gone_and_the_total_is_whole(bars: tuple[int, Drawn]) -> None:
    _, found = bars
    *_, total, result = [line for line in found.screen() if line]
    assert result == "the result"
    assert total.startswith("total")
    assert "100 %" in total
    assert not [line for line in found.screen() if "plain" in line or "lowercase" in line]


@pytest.mark.parametrize(("size", "is_wide"), [(SIZES[0], False), (SIZES[1], True)])
def test_counts_and_losses_are_shown_where_there_is_room(size: tuple[int, int], is_wide: bool) -> None:
    assert ("loss 2.345" in python(STAGES, size=size).text) == is_wide


@pytest.fixture(scope="module", params=SIZES, ids=["80x24", "120x40"])
def result(request: pytest.FixtureRequest) -> tuple[int, Drawn]:
    return request.param[1], python(RESULT, size=request.param)


def test_a_result_fits_and_no_figure_is_broken(result: tuple[int, Drawn]) -> None:
    width, found = result
    assert found.code == 0, found.raw
    wrapped = [line for line in found.lines if not line.startswith("  kdaudit ")]  # a command is there to be copied
    assert max(map(len, wrapped)) <= width
    for line in wrapped:
        assert line.count("[") == line.count("]"), line
        assert not re.search(r"\[[+-]?\d\.\d+,$", line), line
        assert not re.match(r"\s*%", line), line
    words = found.text.split()
    for figure in ("0.750", "0.810", "0.880", "0.930", "+0.060", "+0.050", "0.910", "0.492"):
        assert figure in words, figure


def test_below_130_columns_the_strongest_attack_alone_has_intervals(result: tuple[int, Drawn]) -> None:
    _, found = result
    table = found.text.partition("AUC with 95 % interval")[2].partition("The chance that")[0]
    assert "[0.860, 0.900]" in table
    assert "[0.910, 0.950]" in table
    assert "0.750" in table
    assert "[0.730" not in table
    assert "[0.472" not in table, "the reference alone is no attack"


def test_gates_have_the_colours_of_the_verdict(result: tuple[int, Drawn]) -> None:
    _, found = result
    for colour, status in ((31, "fail"), (32, "pass"), (33, "inconclusive")):
        assert re.search(rf"\x1b\[1;{colour}m *{status}", found.raw), status


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_an_audit_in_a_terminal_breaks_nothing(size: tuple[int, int], given: Given, tmp_path: Path) -> None:
    command = ["attack", *given.arguments(), "--out", str(tmp_path / "run"), "--attack", "loss", "--limit", "12"]
    found = python(AUDIT.format([*command, "--gate", "student.auc <= 0.6"]), size=size)
    assert found.code == 3, found.text
    screen = found.screen()
    (total,) = [line for line in screen if line.startswith("total")]
    assert "100 %" in total
    result = screen[screen.index("How strong each attack is") :]
    assert max(len(line) for line in result if not line.startswith("written:")) <= size[1]


def test_a_terminal_that_knows_no_commands_gets_lines() -> None:
    assert "━" not in python(STAGES, size=SIZES[0], TERM="dumb").text


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(progress, "time", moved)
    return moved


def test_without_a_terminal_there_is_a_line_a_minute(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with StageBars(is_shown=True) as shown:
        shown.expect({"distilling": 3.0, "utility": 1.0})
        for second in range(0, 181, 10):
            time.now = float(second)
            shown.update("distilling", 10 * second, 3000, "loss 2.345")
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in told] == ["distilling"] * 3
    assert told[1] == (
        "distilling: 1,200 of 3,000 (40 %), loss 2.345, for 0:02:00; total 30 %, for 0:02:00, about 0:04:40 left"
    )


@pytest.mark.parametrize("is_new", [True, False])
def test_the_total_of_an_audit_ends_whole_also_where_all_was_measured_before(
    is_new: bool, given: Given, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    out = tmp_path / "run"
    if not is_new:
        shutil.copytree(finished, out)
    done = given.attack(out, *FINISHED, "--reference", given.start)
    told = [line for line in done.err.splitlines() if "; total" in line]
    stages = list(dict.fromkeys(line.partition(":")[0] for line in told))
    assert stages[-1] == "judging"
    assert (len(stages) > 1) == is_new
    shares = [int(re.findall(r"; total (\d+) %", line)[0]) for line in told]
    assert shares == sorted(shares)
    assert shares[-1] == 100


def test_a_quiet_command_says_no_line(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with StageBars(is_shown=False) as shown:
        for minute in range(5):
            time.now = 60.0 * minute
            shown.update("distilling", minute, 4)
    assert capsys.readouterr() == ("", "")


def test_the_total_counts_what_was_finished_before_and_not_its_speed() -> None:
    course = Course()
    course.expect({"a": 10.0, "b": 10.0, "c": 20.0})
    course.reach("b", 0.5)  # a, and half of b, are there from an earlier run
    assert course.share == 15 / 40
    assert course.seconds_left(1.0) is None
    course.reach("b", 1.0)
    assert course.share == 20 / 40
    assert course.seconds_left(5.0) == 20.0
    course.reach("not foreseen", 0.5)
    assert course.share == 20 / 40


def test_a_part_of_several_stages_counts_once_it_has_ended() -> None:
    course = Course()
    course.expect({"audit": 10.0, "control": 10.0})
    for stage in ("audit: teacher, plain", "audit: judging"):
        course.reach(stage, 0.7)
        assert course.share == 0.0
    course.reach("control: judging", 1.0)
    assert course.share == 0.5
    assert course.seconds_left(8.0) == 8.0


def test_times_are_written_as_hours_minutes_and_seconds() -> None:
    assert [clock(seconds) for seconds in (0, 65.4, 3600, 360_000, None)] == [
        "0:00:00", "0:01:05", "1:00:00", "100:00:00", "-:--:--",
    ]  # fmt: skip


figures = st.builds(
    lambda value, half, sign, form: form.format(f"{value:{sign}.3f}", f"{value - half:.3f}", f"{value + half:.3f}"),
    st.floats(0, 1), st.floats(0, 0.1), st.sampled_from(["", "+"]),
    st.sampled_from(["{0}", "{0} [{1}, {2}]", "lower {0} (98.75 %)", "{0} / {1}", "– (no reference)", "< 0.001"]),
)  # fmt: skip
names = st.text("abcdefgh/-. ", min_size=1, max_size=60).map(str.strip).filter(bool)


@drawn(st.lists(st.tuples(names, figures, figures, figures), min_size=1, max_size=4), st.integers(40, 140))
def test_no_table_breaks_a_figure_or_leaves_the_terminal(rows: list[tuple[str, ...]], width: int) -> None:
    head = ("name", "one", "another one", "the third")
    lines = side_by_side(head, rows, width=width, right=(), longest_name=max(8, width // 3))
    if lines is None:
        lines = one_below_the_other(head, rows, width=width)
    shown = ["".join(piece.text for piece in line) for line in lines]
    assert max(map(len, shown)) <= width
    assert all(line.count("[") == line.count("]") for line in shown)
    numbers = [number for row in rows for cell in row[1:] for number in re.findall(r"\d\.\d+", cell)]
    assert sorted(number for line in shown for number in re.findall(r"\d\.\d+", line)) == sorted(numbers)


@drawn(st.text("abc ", max_size=80), st.integers(1, 40))
def test_a_cut_name_keeps_its_end(name: str, width: int) -> None:
    cut = cut_from_left(name, width)
    assert len(cut) <= width
    assert cut == name or (cut[0] == "…" and name.endswith(cut[1:]))


def test_a_sentence_is_wrapped_between_words_and_a_figure_stays_whole() -> None:
    told = "student.auc is 0.930 [0.910, 0.950], at least 0.910 (98.75 % bound), above 0.6"
    assert all(any(part in line for line in wrap(told, 30)) for part in ("0.930 [0.910, 0.950],", "(98.75 %"))
    assert " ".join(wrap(told, 30)) == told


def test_a_repeated_reason_is_said_once() -> None:
    long = "no reference model was given for it"
    rows = [("a", "0.5", long), ("b", "0.5", long), ("c", "0.6", "another"), ("d", "0.6", long)]
    told = said_once(("name", "value", "reason"), rows)
    assert [row[2] for row in told] == [long, "as above", "another", "as for a"]
    assert [row[1] for row in told] == ["0.5", "0.5", "0.6", "0.6"]


def test_an_interval_is_part_of_its_figure() -> None:
    assert WHOLE.fullmatch("+0.060 [+0.050, +0.070]")
    assert without_interval("0.7 [0.6, 0.8] / 0.6 [0.5, 0.7]") == "0.7 / 0.6"
