"""Files of others: their kind and size are looked at first, and what a library says of them is kept in a line."""

import os
from pathlib import Path

import pytest

from kdaudit.errors import ConfigError, ModelError
from kdaudit.foreign import MAX_REASON, is_file, is_folder, read_bytes, read_json, reading, reason


class PanicException(BaseException):
    """What the libraries in Rust raise, by design no Exception."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("first\n\n  second\nthird"), "first second"),
        (RuntimeError(""), "RuntimeError"),
        (KeyError("vocab"), "KeyError: 'vocab'"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_the_reason_of_a_library_is_kept(error: Exception, words: str) -> None:
    assert reason(error) == words


def test_a_reason_without_end_is_cut() -> None:
    assert len(reason(ValueError("x" * 10_000))) == MAX_REASON


@pytest.mark.parametrize("kind", [Exception, RecursionError, OverflowError, PanicException])
def test_whatever_is_raised_over_a_foreign_file_becomes_one_error(kind: type[BaseException]) -> None:
    with pytest.raises(ModelError, match=r"^x\.json: .*bad$"), reading("x.json", ModelError):
        raise kind("bad")


def test_our_own_errors_and_an_interruption_pass() -> None:
    for error in (ConfigError("own"), KeyboardInterrupt()):
        with pytest.raises(type(error)), reading("x", ModelError):
            raise error


def test_a_pipe_a_device_a_loop_and_a_large_file_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "zero", "loop", ".", "none", "x" * 10_000):
        assert not is_file(tmp_path / name)
        with pytest.raises(OSError, match=r"Errno"):
            read_bytes(tmp_path / name, at_most=10)
    assert not is_folder(tmp_path / ("x" * 10_000))
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        read_bytes(tmp_path / "large", at_most=10)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="more than"):
        read_json(tmp_path / "sparse", at_most=100)


def test_json_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for content in ("[" * 100_000, '{"a":' * 100_000):
        path.write_text(content)
        with pytest.raises(ValueError, match="nested too deeply"):
            read_json(path)
