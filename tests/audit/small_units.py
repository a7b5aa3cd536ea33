"""The program with small units of work, each of which may be made to take a while: `PAUSE ARGUMENT…`."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from kdaudit.cli.main import main
from kdaudit.signals import store
from kdaudit.signals.tokens import TokenSignals
from kdaudit.views import build
from tests.commands import fewer_resamples

SHARD_CHARS = 300  # six shards of each pass of `given`

if __name__ == "__main__":
    build.SHARD_CHARS = SHARD_CHARS
    write = store.write

    def slowly(path: Path, signals: Sequence[TokenSignals]) -> None:
        write(path, signals)
        time.sleep(float(sys.argv[1]))

    store.write = slowly
    with fewer_resamples():
        main(sys.argv[2:])
