"""The first screen of a run: what is decided, how much is given away, and what to do."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from kdaudit.distill.settings import DistillConfig
from kdaudit.metrics.strongest import Strongest
from kdaudit.mitigate.settings import MitigateConfig
from kdaudit.options import options_of
from kdaudit.report import card
from kdaudit.report.blocks import VerdictCard
from kdaudit.report.page import report_page
from kdaudit.report.reading import Report, Run
from kdaudit.results import AttackResult, AuditResult, Cell, Source
from kdaudit.verdict import judge, parse_gate
from kdaudit.verdict.waivers import waive
from kdaudit.waivers import Waiver
from tests.report.gated import audit
from tests.report.reports import LEAKY, around, attack, checkpoint, gain, measured
from tests.verdict.audits import INVALID

RUN = Path("runs/leaky/results.json")


def judged(*gates: str, result: AuditResult = LEAKY) -> AuditResult:
    found = judge(result.attacks, result.validity, [parse_gate(gate) for gate in gates])
    return replace(result, verdict=found)


def shown(result: AuditResult) -> VerdictCard:
    return card.verdict_card(Run("leaky", RUN, result), None)


def test_a_failure_is_told_in_natural_frequencies_with_chance_limit_and_teacher() -> None:
    found = shown(judged("student.auc <= 0.6", "teacher.auc <= 0.99"))
    assert (found.title, found.tone) == ("Fail: 1 of 2 limits broken", "fail")
    assert found.plain == [
        "Shown one record that the student was trained on and one that it was not, an attacker picks the right one 93 "
        "times in 100 (91 to 95; chance is 50; your limit is 60). The teacher: 88."
    ]


@pytest.mark.parametrize(
    ("share", "others", "text"),
    [(0.85, (0.6,), "85"), (0.6004, (0.6,), "60.04"), (0.6, (0.6,), "60"), (0.998, (), "99.8"), (1.0, (), "100"),
     (0.5008, (), "50.1"), (None, (), "–")],
)  # fmt: skip
def test_digits_are_added_where_rounding_would_hide_the_finding(
    share: float | None, others: tuple[float, ...], text: str
) -> None:
    assert card.in_100(share, *others) == text


def test_a_leak_that_may_be_chance_is_said_to_be() -> None:
    one = {"loss": attack(0.5, 0.51)}
    found = shown(judged("student.auc[loss] <= 0.6", result=replace(LEAKY, attacks=one, strongest={})))
    assert "This may be no more than chance." in found.plain[0]
    assert found.tone == "pass"
    assert found.title == "Pass for this attack: the limit is kept"


def test_a_pass_speaks_of_these_attacks() -> None:
    attacks = {"loss": attack(0.5, 0.53), "zlib": attack(0.5, 0.52)}
    result = judged("student.auc <= 0.6", "teacher.auc <= 0.6", result=replace(LEAKY, attacks=attacks, strongest={}))
    assert shown(result).title == "Pass for these 2 attacks: all 2 limits are kept"
    assert "for these attacks" in result.verdict.sentence


def test_a_pass_under_a_lax_limit_is_not_green_and_says_that_the_leak_is_clear() -> None:
    found = shown(judged("student.auc <= 0.99"))
    assert (found.status, found.tone) == ("pass", "inconclusive")
    assert found.title == "Pass for these 2 attacks, but the leak is clear", "ez was not judged"
    assert "lax" in found.cautions[0]


def test_a_leak_that_does_not_beat_the_start_is_not_called_clear() -> None:
    one = attack(0.6, 0.7)
    cells = {**one.cells, "student": replace(one.cells["student"], nulls={"start": {"auc": gain(0.001)}})}
    result = judged(
        "student.auc[loss] <= 0.9", result=replace(LEAKY, attacks={"loss": replace(one, cells=cells)}, strongest={})
    )
    assert shown(result).tone == "pass"


def test_a_waived_failure_is_amber_with_its_reason_and_its_last_day() -> None:
    result = judged("student.auc <= 0.6")
    waiver = Waiver("student.auc <= 0.6", "accepted by the board", date(2030, 1, 31), Path("kdaudit.toml"), 7)
    found = shown(replace(result, verdict=waive(result.verdict, {"student.auc<=0.6": waiver})))
    assert (found.status, found.tone) == ("pass", "inconclusive")
    assert found.title == "Pass by waiver alone: 1 of 1 limit broken"
    assert "2030-01-31" in found.cautions[0]
    assert "accepted by the board" in found.cautions[0]


def test_figures_that_cannot_be_trusted_are_shown_nowhere() -> None:
    result = audit(["student.auc <= 0.6"], validity=INVALID)
    found = shown(result)
    assert found.title == "No verdict: the two sets differ in more than membership"
    assert "times in 100" not in found.plain[0]
    assert card.tiles(result)[0].value == "They differ"
    assert shown(replace(result, verdict=judge(result.attacks, INVALID, []))).tone == "inconclusive"


def test_without_a_limit_a_command_sets_one() -> None:
    (step,) = shown(judged()).steps
    assert step.command == "kdaudit report runs/leaky --gate 'student.auc <= 0.6'"


def config_of(command: str) -> MitigateConfig:
    """What the command line makes of it."""
    program, name, *arguments = shlex.split(command)
    assert (program, name) == ("kdaudit", "mitigate")
    given: dict[str, list[str]] = {}
    for flag, value in zip(arguments[::2], arguments[1::2], strict=True):
        given.setdefault(flag, []).append(value)
    known = {found.flag: found for kind in (DistillConfig, MitigateConfig) for found in options_of(kind)}
    assert given.keys() <= known.keys()
    distill = DistillConfig(
        teacher=given["--teacher"][0], train=tuple(given["--train"]), nonmembers=tuple(given["--nonmembers"]),
        student=given["--student"][0], out=Path(given["--out"][0]), text_field=given["--text-field"][0],
    )  # fmt: skip
    return MitigateConfig(
        distill=distill, methods=tuple(given["--method"]), out=Path(given["--out"][0]), gates=tuple(given["--gate"])
    )


def test_the_command_that_looks_for_a_better_student_is_whole() -> None:
    result = judged("student.auc <= 0.6", "student.auc[ez] <= 0.7", "difference.auc <= 0.02")
    steps = shown(result).steps
    assert steps[0].words == "Do not publish the student as it is."
    assert steps[-1].command == (
        "kdaudit mitigate --from ./student --method all --gate 'student.auc <= 0.6' --gate 'difference.auc <= 0.02' "
        "--out mitigated"
    )
    stranger = replace(measured("my student"), reference=checkpoint("a start"))
    sources = (Source("--members", "m's.jsonl", 9, 0, ""), Source("--nonmembers", "n.jsonl", 9, 0, ""))
    without = replace(
        result, models={**LEAKY.models, "student": stranger}, data=replace(LEAKY.data, sources=sources),
        config={"text_field": "body"},
    )  # fmt: skip
    config = config_of(shown(without).steps[-1].command)
    assert config.distill.student == "a start"
    assert config.distill.train == ("m's.jsonl",)
    assert config.gates == ("student.auc <= 0.6", "difference.auc <= 0.02"), "no arm is attacked by ez"
    last = replace(without, config={"score": "last"})
    assert " --score last " in shown(last).steps[-1].command, "another choice of words would train another student"
    tuned = replace(LEAKY.attacks["loss"], settings={"fraction": 0.1})
    set_so = replace(result, attacks={**LEAKY.attacks, "min-k": tuned, "ez": replace(tuned, settings={"share": 2})})
    assert "--method all --set min-k.fraction=0.1 --gate" in shown(set_so).steps[-1].command
    unknown = replace(without, data=LEAKY.data)
    assert not any(step.command for step in shown(unknown).steps)


def test_four_tiles_answer_what_a_board_asks() -> None:
    found, against, trust, worth = card.tiles(LEAKY)
    assert found.value == "23 %"
    assert found.words == "of the members are found at 1 % false alarms, by reference (21 to 25 %)"
    assert against.value == "+5.0 points"
    assert against.words == "more than the teacher, AUC under reference (+4.0 to +6.0), p < 0.001"
    assert (trust.value, trust.tone) == ("Comparable", "pass")
    assert worth.value == "3.300 nats"
    assert worth.words.endswith("the teacher's is 3.100")


def test_one_line_says_what_was_looked_at() -> None:
    assert card.about(LEAKY) == (
        "Teacher owner/teacher (1.73 M) → Student ./student (1.73 M) · 2,000 training records (“members”), 1,988 "
        "others (“non-members”) · 3 attacks · measured 25 Nov 2026 · kdaudit 0.1.0"
    )
    assert card.short_name("/home/somebody/models/student/") == "…/models/student"


def test_the_strongest_attack_of_several_has_an_interval_that_allows_for_the_choice() -> None:
    found = Strongest("loss", 0.7, 0.64, 0.76, 0.95, 2.5, ("loss", "zlib"))
    cells = {"student": Cell("ok", figures={"auc": around(0.7)})}
    attacks = {name: replace(attack(0.6, 0.7), cells={**attack(0.6, 0.7).cells, **cells}) for name in ("loss", "zlib")}
    result = judged("student.auc <= 0.6", result=replace(LEAKY, attacks=attacks, strongest={"student": found}))
    assert "70 times in 100 (64 to 76;" in shown(result).plain[0]


def test_every_student_that_breaks_a_limit_is_named_and_no_other() -> None:
    models = {**LEAKY.models, "student-2": LEAKY.models["student"]}
    strong, weak = attack(0.88, 0.93), attack(0.88, 0.52)

    def words(second: AttackResult) -> str:
        one = replace(
            strong,
            cells={**strong.cells, "student-2": second.cells["student"]},
            comparison={**strong.comparison, "student-2": second.comparison["student"]},
        )
        attacks = dict.fromkeys(("loss", "zlib"), one)
        return (
            shown(
                judged(
                    "student.auc <= 0.6",
                    "student-2.auc <= 0.6",
                    result=replace(LEAKY, models=models, attacks=attacks, strongest={}),
                )
            )
            .steps[0]
            .words
        )

    assert words(weak) == "Do not publish the student as it is."
    assert words(strong) == "Do not publish the student or the student-2 as they are."


def test_several_runs_are_told_in_one_sentence_and_those_that_say_nothing_say_so(two_runs: Report) -> None:
    verdict = report_page(two_runs, with_pictures=False).verdict
    assert verdict is not None
    assert (verdict.title, verdict.tone) == ("Fail: 1 of 2 runs", "fail")
    assert "leaky: student 93, teacher 88; better: student 56, teacher 88. Chance is 50." in verdict.plain[0]
    assert card.right_guesses(replace(LEAKY, validity=INVALID)) == "the two sets differ in more than membership"
