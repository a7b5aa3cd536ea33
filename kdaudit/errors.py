"""Every failure a user can cause, and the exit code each one ends the process with.

KdauditError
  ConfigError             options or config file contradict each other or name something unknown   2
  RecordsError            a record file cannot be read or used                                      2
  CheckpointError         a path or id given as a checkpoint is not one                             2
  OutputError             an output folder or file cannot be written                                2
  InsufficientDataError   too few records to answer the question asked                              3
  HubError                a data set of the Hub can neither be reached nor found in the cache       4
  ModelError              a checkpoint cannot be loaded or scored                                   4
  DiskFullError           no space is left for an output                                            4
  ControlError            a control of the demo did not come out as it must                         4
  RankError               another process of the same audit has died, failed or never begun         4
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the process tells CI. A crash never looks like a finding: it ends with FAILED and its traceback."""

    PASSED = 0
    GATE_FAILED = 1
    BAD_INPUT = 2
    INCONCLUSIVE = 3
    FAILED = 4
    INTERRUPTED = 130


def did_you_mean(name: str, known: Iterable[str], *, written: Callable[[str], str] = str, otherwise: str = "") -> str:
    """A hint with the nearest of the known names, whatever its case; where none is near, with all of them.

    Args:
        name: what is not known.
        known: what could have been meant.
        written: gives what to write for a name.
        otherwise: what to say instead of all names.
    """
    from difflib import get_close_matches  # only for an error

    choices = {_spoken(one): one for one in known}
    near = get_close_matches(_spoken(name), choices, n=1)
    if near:
        return f"did you mean '{written(choices[near[0]])}'?"
    return otherwise or f"choose one of: {', '.join(choices.values())}"


def _spoken(name: str) -> str:
    """A name as it is told apart: minkpp is as near to min-k++ as Min-K++ is."""
    return name.lower().replace("plus", "p").replace("+", "p")


class KdauditError(Exception):
    """Base of every expected failure. The message is for the user; `hint` says what to do next."""

    exit_code: ClassVar[ExitCode] = ExitCode.BAD_INPUT

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(KdauditError):
    """Options or config file contradict each other or name something unknown."""


class RecordsError(KdauditError):
    """A record file cannot be read or used."""


class CheckpointError(KdauditError):
    """A path or id given as a checkpoint is not one."""


class OutputError(KdauditError):
    """An output folder or file cannot be written."""


class InsufficientDataError(KdauditError):
    """Too few records to answer the question asked."""

    exit_code = ExitCode.INCONCLUSIVE


class HubError(KdauditError):
    """A data set of the Hub can neither be reached nor found in the local cache."""

    exit_code = ExitCode.FAILED


class ModelError(KdauditError):
    """A checkpoint cannot be loaded or scored."""

    exit_code = ExitCode.FAILED


class DiskFullError(KdauditError):
    """No space is left for an output."""

    exit_code = ExitCode.FAILED


class ControlError(KdauditError):
    """A control of the demo did not come out as it must."""

    exit_code = ExitCode.FAILED


class RankError(KdauditError):
    """Another process of the same audit has died, failed or never begun."""

    exit_code = ExitCode.FAILED
