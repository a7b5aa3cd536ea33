"""What a report costs: processor time of the whole command on a finished run, Python's own start included.

Prints figures, asserts nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.report.reports import LEAKY, write_run


def main() -> None:
    """Report the same run in several formats, each a few times, and print the least time of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder) / "run", LEAKY)
        for formats in ("md,json,sarif,junit", "html,md,json"):
            print(f"{formats:<22}{min(seconds(run, formats) for _ in range(options.repeats)):8.2f} s of processor time")


def seconds(run: Path, formats: str) -> float:
    """Seconds of processor time that one `kdaudit report` takes."""
    before = os.times()
    subprocess.run(
        [sys.executable, "-m", "kdaudit", "report", str(run), "--format", formats], check=True, capture_output=True
    )
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    main()
