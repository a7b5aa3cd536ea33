import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.attacks import ATTACKS
from kdaudit.errors import ConfigError
from kdaudit.verdict import Gate, check_gates, parse_gate


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("student.auc <= 0.60", "student.auc<=0.6"),
        ("  teacher . balanced_accuracy<=1 ", "teacher.balanced_accuracy<=1"),
        ("student-2.tpr@0.010 [ min-k++ ] <= 5e-2", "student-2.tpr@0.01[min-k++]<=0.05"),
        ("student.tpr @ 1e-3<=.05", "student.tpr@0.001<=0.05"),
        ("difference.auc<=-0.5", "difference.auc<=-0.5"),
        ("difference.auc<=-0", "difference.auc<=0"),
        ("student-12.auc[loss]<=+0.6", "student-12.auc[loss]<=0.6"),
    ],
)
def test_spaces_are_free_and_a_gate_has_one_normal_form(text: str, normal: str) -> None:
    assert str(parse_gate(text)) == normal
    assert parse_gate(normal) == parse_gate(text)


def test_a_gate_says_what_it_limits() -> None:
    assert parse_gate("student.tpr@0.01[loss]<=0.05") == Gate("student", "tpr@0.01", "loss", 0.05)
    assert parse_gate("difference.auc<=0") == Gate("difference", "auc", None, 0)


@given(
    st.sampled_from(["teacher", "student", "student-2", "student-17"]),
    st.sampled_from(["auc", "balanced_accuracy", "tpr@0.001", "tpr@0.01", "tpr@0.1"]),
    st.sampled_from(["", *(f"[{name}]" for name in ATTACKS)]),
    st.floats(0, 1),
)
def test_the_normal_form_reads_back_as_the_same_gate(subject: str, metric: str, name: str, limit: float) -> None:
    gate = parse_gate(f"{subject}.{metric}{name}<={limit!r}")
    assert parse_gate(str(gate)) == gate
    assert gate.limit == limit


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "not understood", "write SUBJECT.METRIC"),
        ("student.auc", "not understood", "write SUBJECT.METRIC"),
        ("auc <= 0.6", "not understood", "write SUBJECT.METRIC"),
        ("student.auc[loss <= 0.6", "not understood", "write SUBJECT.METRIC"),
        ("student.auc[loss][zlib] <= 0.6", "not understood", "write SUBJECT.METRIC"),
        ("Student.auc <= 0.6", "unknown subject 'Student'", "student"),
        ("studnet.auc <= 0.6", "unknown subject 'studnet'", "student"),
        ("student-1.auc <= 0.6", "unknown subject 'student-1'", "student"),
        ("student-02.auc <= 0.6", "unknown subject 'student-02'", "student-2"),
        ("differences.auc <= 0.6", "unknown subject 'differences'", "difference"),
        ("student.accuracy <= 0.6", "unknown metric 'accuracy'", "balanced_accuracy"),
        ("student.AUC <= 0.6", "unknown metric 'AUC'", "auc"),
        ("student.f1 <= 0.6", "unknown metric 'f1'", "auc, tpr@0.01, balanced_accuracy"),
        ("student.member_success <= 0.6", "member_success cannot be gated", "balanced_accuracy"),
        ("student.nonmember_success[loss] <= 0.6", "nonmember_success cannot be gated", "balanced_accuracy"),
        ("student.auc[min_k] <= 0.6", "unknown attack 'min_k'", "min-k"),
        ("student.auc[all] <= 0.6", "unknown attack 'all'", "leave [...] out"),
        ("student.auc[] <= 0.6", "unknown attack ''", "leave [...] out"),
        ("student.auc < 0.6", "operator '<'", "write <="),
        ("student.auc >= 0.6", "operator '>='", "write <="),
        ("student.auc = 0.6", "operator '='", "write <="),
        ("student.auc == 0.6", "operator '=='", "write <="),
        ("student.auc ≤ 0.6", "operator '≤'", "write <="),
        ("student.auc <=", "the limit '' is not a number", "write SUBJECT.METRIC"),
        ("student.auc <= high", "the limit 'high' is not a number", "write SUBJECT.METRIC"),
        ("student.auc <= 60%", "the limit '60%' is not a number", "0.6, not 60%"),
        ("student.auc <= nan", "the limit 'nan' is not a number", "write SUBJECT.METRIC"),
        ("student.auc <= inf", "the limit 'inf' is not a number", "write SUBJECT.METRIC"),
        ("student.auc <= 0_6", "the limit '0_6' is not a number", "write SUBJECT.METRIC"),
        ("student.auc <= 0,6", "the limit '0,6' is not a number", "write SUBJECT.METRIC"),
        ("student.auc <= 60", "the limit 60 is out of range", "between 0 and 1"),
        ("student.auc <= -0.1", "the limit -0.1 is out of range", "between 0 and 1"),
        ("difference.auc <= -1.1", "the limit -1.1 is out of range", "between -1 and 1"),
        ("student.auc <= 1e999", "the limit 1e999 is out of range", "between 0 and 1"),
        ("student.tpr <= 0.1", "tpr without a false positive rate", "tpr@0.001, tpr@0.01, tpr@0.1"),
        ("student.tpr@0.05 <= 0.1", "tpr@0.05 is not measured", "tpr@0.001, tpr@0.01, tpr@0.1"),
        ("student.tpr@1% <= 0.1", "tpr@1% is not measured", "tpr@0.001, tpr@0.01, tpr@0.1"),
        ("student.auc@0.01 <= 0.1", "auc takes no @0.01", "tpr@0.01"),
    ],
)
def test_a_gate_that_is_not_understood_is_refused_with_a_hint(text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_gate(text)
    assert message in str(error.value)
    assert f"gate '{text}'" in str(error.value)
    assert hint in error.value.hint


@given(
    st.text(max_size=30) | st.from_regex(r"student\.\w{0,5}(@\S{0,4})?(\[\S{0,4}\])?[<=>]{0,3}.{0,5}", fullmatch=True)
)
def test_any_text_is_a_gate_or_a_clear_refusal(text: str) -> None:
    try:
        gate = parse_gate(text)
    except ConfigError:
        return
    assert parse_gate(str(gate)) == gate


def test_a_gate_without_end_is_read_or_refused_at_once() -> None:
    spaces = " " * 30_000
    started = time.process_time()
    assert str(parse_gate(f"{spaces}student.auc{spaces}<={spaces}0.6{spaces}")) == "student.auc<=0.6"
    for text in (
        f"{spaces}x",
        f"student.auc{spaces}x <= 1",
        "student.auc <" + "=" * 30_000,
        "x" * 30_000,
        "[" * 30_000,
    ):
        with pytest.raises(ConfigError, match="gate '"):
            parse_gate(text)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("gate", "models", "message"),
    [
        ("student-2.auc<=0.6", ["teacher", "student"], "the run has no student-2"),
        ("student.auc<=0.6", ["teacher"], "the run has no student"),
        ("difference.auc<=0.6", ["teacher"], "no student to compare"),
        ("student.auc[ez]<=0.6", ["teacher", "student"], "the run has no attack 'ez'"),
    ],
)
def test_a_gate_that_this_run_could_never_judge_is_refused(gate: str, models: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_gates([parse_gate(gate)], models=models, attacks=["loss", "zlib"])


def test_gates_that_the_run_can_judge_are_accepted() -> None:
    texts = ["teacher.auc<=1", "student.auc[zlib]<=1", "student-2.tpr@0.1<=1", "difference.auc<=1"]
    check_gates(map(parse_gate, texts), models=["teacher", "student", "student-2"], attacks=["loss", "zlib"])


def test_a_gate_on_a_baseline_is_not_written_by_hand() -> None:
    with pytest.raises(ConfigError, match="not understood") as caught:
        parse_gate("student.auc-baseline <= 0.02")
    assert "--baseline RUN" in caught.value.hint
