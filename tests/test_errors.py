import re
from collections.abc import Iterator

import pytest

import kdaudit.errors as errors
from kdaudit.errors import ExitCode, KdauditError, did_you_mean


def tree(error: type[KdauditError] = KdauditError) -> Iterator[type[KdauditError]]:
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from tree(child)


EXPECTED = {
    "ConfigError": ExitCode.BAD_INPUT,
    "RecordsError": ExitCode.BAD_INPUT,
    "CheckpointError": ExitCode.BAD_INPUT,
    "OutputError": ExitCode.BAD_INPUT,
    "InsufficientDataError": ExitCode.INCONCLUSIVE,
    "HubError": ExitCode.FAILED,
    "ModelError": ExitCode.FAILED,
    "DiskFullError": ExitCode.FAILED,
    "ControlError": ExitCode.FAILED,
    "RankError": ExitCode.FAILED,
}


def test_every_error_ends_with_the_agreed_code() -> None:
    assert {error.__name__: error.exit_code for error in tree()} == EXPECTED


def test_the_docstring_draws_the_whole_tree_with_its_codes() -> None:
    drawn = re.findall(r"^  +(\w+Error)\s.*?([0-9]+)$", errors.__doc__ or "", flags=re.MULTILINE)
    assert [(name, int(code)) for name, code in drawn] == [(error.__name__, int(error.exit_code)) for error in tree()]


def test_no_error_takes_the_code_of_a_finding_or_of_a_pass() -> None:
    assert not {error.exit_code for error in tree()} & {ExitCode.PASSED, ExitCode.GATE_FAILED}


def test_the_exit_codes_are_the_promised_numbers() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "PASSED": 0,
        "GATE_FAILED": 1,
        "BAD_INPUT": 2,
        "INCONCLUSIVE": 3,
        "FAILED": 4,
        "INTERRUPTED": 130,
    }


@pytest.mark.parametrize("error", list(tree()))
def test_an_error_carries_its_message_and_its_hint(error: type[KdauditError]) -> None:
    raised = error("what went wrong", hint="what to do")
    assert str(raised) == "what went wrong"
    assert raised.hint == "what to do"
    assert error("no hint").hint == ""


def test_a_name_that_is_not_known_is_answered_with_the_nearest_one_or_with_all() -> None:
    known = ["auc", "tpr@0.01", "Balanced_Accuracy"]
    assert did_you_mean("acu", known) == "did you mean 'auc'?"
    assert did_you_mean("balanced_acuracy", known) == "did you mean 'Balanced_Accuracy'?"
    assert did_you_mean("acu", known, written=lambda name: f"--metric {name}") == "did you mean '--metric auc'?"
    assert did_you_mean("xyz", known) == "choose one of: auc, tpr@0.01, Balanced_Accuracy"
    assert did_you_mean("xyz", known, otherwise="look it up") == "look it up"
