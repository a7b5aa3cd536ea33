"""The date that results and reports carry. SOURCE_DATE_EPOCH sets it, so that two runs can give the same bytes."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime

from kdaudit.errors import ConfigError

VARIABLE = "SOURCE_DATE_EPOCH"


def today() -> date:
    """Today in UTC, or the day that SOURCE_DATE_EPOCH names in seconds since 1970.

    Raises:
        ConfigError: the variable is set to something else.

    Source: https://reproducible-builds.org/specs/source-date-epoch/
    """
    written = os.environ.get(VARIABLE, "")
    if not written:
        return datetime.now(UTC).date()
    try:
        return datetime.fromtimestamp(int(written), UTC).date()
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(
            f"{VARIABLE}: '{written[:40]}' is not a number of seconds since 1970",
            hint="write it as 1764115200, or unset it",
        ) from error
