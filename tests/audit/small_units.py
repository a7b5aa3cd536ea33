"""The program with small units of work, each of which may be made to take a while: `PAUSE ARGUMENT…`."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from kdaudit.cli.main import main
from kdaudit.signals import store
from kdaudit.signals.tokens import TokenSignals
from kdaudit.views import build

SHARD_CHARS = 300  # six shards of each pass of `given`

if __name__ == "__main__":
    build.SHARD_CHARS = SHARD_CHARS
    write = store.write

    def slowly(path: Path, signals: Sequence[TokenSignals]) -> None:
        write(path, signals)
        time.sleep(float(sys.argv[1]))

    store.write = slowly
    judging = nullcontext()
    if os.environ.get("RANK", "0") == "0":
        from tests.commands import fewer_resamples  # brings pytest and more: not for processes that only measure

        judging = fewer_resamples()  # type: ignore[assignment]
    with judging:
        main(sys.argv[2:])
