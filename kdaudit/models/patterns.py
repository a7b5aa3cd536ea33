"""Regular expressions that a checkpoint brings, tried in a process of their own: some never come to an end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kdaudit.errors import CheckpointError

SECONDS = 5
"""To match all of them against all names, which takes milliseconds."""
_TRIAL = """
import json, re, sys
patterns, names = json.load(sys.stdin)
for pattern in patterns:
    for name in names:
        re.fullmatch(pattern, name), re.match(rf"(.*\\.)?({pattern})$", name)
"""
"""As peft matches them."""


def check_patterns(settings: Mapping[str, Any], names: Sequence[str], what: str) -> None:
    """Refuse an adapter whose patterns take forever on the names of the parts of its base.

    Args:
        settings: the content of adapter_config.json.
        names: of the parts.
        what: begins the message.

    Raises:
        CheckpointError: they take more time than matching can need.
    """
    patterns = [one for one in _patterns(settings) if re.fullmatch(r"[\w.-]*", one) is None]
    if not patterns:
        return
    command = [sys.executable, "-I", "-S", "-c", _TRIAL]
    given = json.dumps([patterns, names]).encode()
    try:
        subprocess.run(command, input=given, stderr=subprocess.DEVNULL, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(
            f"{what}: matching its patterns (target_modules and the like) takes more than {SECONDS} seconds",
            hint="write the names of the parts out in its adapter_config.json",
        ) from error


def _patterns(settings: Mapping[str, Any]) -> Iterator[str]:
    for name in ("target_modules", "exclude_modules", "layers_pattern", "rank_pattern", "alpha_pattern"):
        value = settings.get(name)
        of: Iterable[Any] = [value] if isinstance(value, str) else value if isinstance(value, list | dict) else []
        yield from (one for one in of if isinstance(one, str))
