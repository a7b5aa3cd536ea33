"""No parser answers a broken file with anything but one of our own errors, in time."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from kdaudit.errors import ExitCode, KdauditError
from tests.fuzz.parsers import PARSERS, WEIRD_BYTES, Parser, nasty

SECONDS = float(os.environ.get("FUZZ_SECONDS", "600"))
"""Of `make fuzz`, over all parsers."""
LIMIT = 10.0
"""Seconds that one file may take."""
NASTY = nasty()


def edited(draw: st.DrawFn, raw: bytes) -> bytes:
    """A few pieces of a file taken out, doubled, or put in."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        end = draw(st.integers(start, min(len(raw), start + 40)))
        new = draw(
            st.one_of(st.just(b""), st.sampled_from(WEIRD_BYTES), st.binary(max_size=8), st.just(raw[start:end] * 2))
        )
        raw = raw[:start] + new + raw[end:]
    return raw


def replaced(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with one of its parts replaced by what does not belong there, renamed or left out."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(NASTY))
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = draw(st.sampled_from(keys))
    changed: Any = value.copy()
    match draw(st.integers(0, 5)):
        case 0:
            del changed[key]
        case 1 if isinstance(changed, dict):
            changed[draw(st.sampled_from(["", "\x1b", "a" * 500, "schema", "__class__"]))] = changed.pop(key)
        case _:
            changed[key] = replaced(draw, changed[key])
    return changed


@st.composite
def broken(draw: st.DrawFn, parser: Parser) -> bytes:
    """A file that the parser takes, broken."""
    raw = draw(st.sampled_from(parser.seeds))
    if draw(st.booleans()):
        lines = raw.split(b"\n") if parser.file.endswith(".jsonl") else [raw]
        with suppress(ValueError):
            lines = [json.dumps(replaced(draw, json.loads(line))).encode() if line else line for line in lines]
            return b"\n".join(lines)
    return edited(draw, raw)


def check(parser: Parser, raw: bytes) -> None:
    """Only success or one of our own errors with a documented exit code, in time."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / parser.file
        path.write_bytes(raw)
        begun, refused = time.monotonic(), None
        try:
            parser.read(path)
        except KdauditError as error:
            refused = error
        assert time.monotonic() - begun < LIMIT
    assert refused is None or refused.exit_code in {ExitCode.BAD_INPUT, ExitCode.FAILED}
    assert refused is None or str(refused).strip()


def fuzz(parser: Parser, *, n: int, start: int) -> None:
    """`n` broken files, others for every start."""

    @seed(start)
    @settings(
        max_examples=n, deadline=None, database=None, derandomize=False, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    @given(broken(parser))
    def feed(raw: bytes) -> None:
        check(parser, raw)

    feed()


@pytest.mark.parametrize("name", sorted(PARSERS.keys() - {"jsonl", "alteration"}))
def test_what_is_well_is_read(name: str, tmp_path: Path) -> None:
    """Else a broken file would be refused at the door, and nothing behind it tried."""
    path = tmp_path / PARSERS[name].file
    path.write_bytes(PARSERS[name].seeds[0])
    PARSERS[name].read(path)


@pytest.mark.parametrize("name", PARSERS)
def test_a_few_broken_files_end_in_our_own_errors(name: str) -> None:
    fuzz(PARSERS[name], n=25, start=0)


@pytest.mark.fuzz
@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.parametrize("name", PARSERS)
def test_broken_files_end_in_our_own_errors(name: str) -> None:
    begun, rounds = time.monotonic(), 0
    while time.monotonic() - begun < SECONDS / len(PARSERS):
        rounds += 1
        fuzz(PARSERS[name], n=100, start=rounds)
