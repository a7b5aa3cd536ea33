"""The ways in which a text is shown to a model."""

from __future__ import annotations

from enum import StrEnum


class View(StrEnum):
    """How a record's text is put in front of a model: each view costs one forward pass per record."""

    PLAIN = "plain"
    """The text alone."""

    LOWERCASED = "lowercased"
    """The text in lower case."""

    PREFIXED = "prefixed"
    """The text after the shots (non-member texts joined by a newline); only the text's tokens are scored."""
