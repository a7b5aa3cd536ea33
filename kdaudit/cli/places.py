"""Whether what the options name is there, looked at before torch is loaded, which takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kdaudit.options import options_of


def check_places(config: Any) -> None:
    """Refuse checkpoints and records that a configuration names and that are neither here nor the form of a Hub id.

    Raises:
        CheckpointError: there is no such folder.
        RecordsError: there is no such file.
    """
    from kdaudit.models.hub import check_place  # only where something is run: --help stays light
    from kdaudit.records.files import check_source

    kind: Callable[..., Any] = type(config)
    for one in options_of(kind):
        value = getattr(config, one.field)
        for name in value if isinstance(value, tuple) else (value,):
            if isinstance(name, str) and one.option.names == "checkpoint":
                check_place(name, one.flag)
            elif isinstance(name, str) and one.option.names == "records":
                check_source(name, f"{one.flag} {name}")
