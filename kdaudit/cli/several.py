"""One command in several processes (torchrun, accelerate launch): what it says of itself is said once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from kdaudit.errors import ModelError
from kdaudit.ranks import is_follower, launched

PATIENCE = 5.0
"""Seconds that a process waits before it says why it failed: whoever started it ends it as soon as another one has."""


@contextmanager
def speaking_once() -> Iterator[None]:
    """Within it an error is the main process's to say, unless another process alone has it.

    Raises:
        ModelError: in place of what a library says where another process is gone.
    """
    try:
        yield
    except Exception as error:
        is_left = _is_left_alone(error)
        if is_left or is_follower():
            time.sleep(PATIENCE)
        if is_left:
            raise ModelError("another process of this run has ended, and what it was to give is lacking") from error
        raise


def _is_left_alone(error: Exception) -> bool:
    """Whether the other end of a connection between processes is gone: gloo and NCCL have no class for that."""
    names = {kind.__name__ for kind in type(error).__mro__}
    words = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
    return launched().is_one_of_several and ("DistError" in names or any(word in str(error) for word in words))
