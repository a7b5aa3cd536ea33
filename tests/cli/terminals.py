"""A real pseudo-terminal of a size, and what a program drew into it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path

SIZES = ((24, 80), (40, 120))
"""Rows and columns."""
COMMANDS = re.compile(r"\x1b\[[0-9;?]*([A-Za-z])")


@dataclass(frozen=True)
class Drawn:
    """What a program wrote, and how it ended."""

    code: int
    raw: str

    @property
    def text(self) -> str:
        """Without colours and movements."""
        return COMMANDS.sub("", self.raw)

    @property
    def lines(self) -> list[str]:
        """Every line that was ever drawn."""
        return [line.rstrip() for line in re.split(r"[\r\n]+", self.text)]

    def screen(self) -> list[str]:
        """What is left to be seen in the end, as a terminal without limits shows it."""
        seen, row, place = [""], 0, 0
        for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", self.raw):
            if part == "\r":
                place = 0
            elif part == "\n":
                row += 1
                seen += [""] * (row + 1 - len(seen))
            elif found := COMMANDS.fullmatch(part):
                amount = int(re.sub(r"\D", "", part) or 1)
                row -= amount if found[1] == "A" else 0
                seen[row] = "" if part == "\x1b[2K" else seen[row]
            else:
                seen[row] = seen[row][:place].ljust(place) + part + seen[row][place + len(part) :]
                place += len(part)
        return [line.rstrip() for line in seen]


def python(code: str, *, size: tuple[int, int], **environment: str) -> Drawn:
    """Run a program in a terminal of `size`, and collect what it draws until it ends."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR", "CI"}}
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=its, stdout=its, stderr=its, cwd=root,
        env={**kept, "TERM": "xterm-256color", "PYTHONPATH": root, **environment},
    )  # fmt: skip
    os.close(its)
    found = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        found += part
    os.close(ours)
    return Drawn(process.wait(), found.decode())
