"""Parameters of attacks: what `--set ATTACK.PARAMETER=VALUE` changes of a definition."""

from __future__ import annotations

from dataclasses import dataclass

from kdaudit.options import Declared, Option

Setting = int | float | tuple[int, ...]
"""The value of a parameter."""
_KINDS = {int: "a whole number", float: "a number", tuple: "whole numbers, joined by commas"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number in an attack's definition: a keyword of its `score`."""

    name: str
    """As typed: min-errors."""
    default: Setting
    """Its type is that of every value."""
    option: Option
    """What it is, and its range."""
    is_share: bool = False
    """Whether words give it in per cent."""

    @property
    def keyword(self) -> str:
        """The name as Python writes it."""
        return self.name.replace("-", "_")

    def read(self, text: str) -> Setting:
        """The value that was typed.

        Raises:
            ValueError: it is of another type, or outside the range.
        """
        is_many, item = isinstance(self.default, tuple), float if isinstance(self.default, float) else int
        try:
            values = tuple(map(item, text.split(","))) if is_many else (item(text),)
        except ValueError as error:
            raise ValueError(f"'{text}' is not {_KINDS[type(self.default)]}") from error
        declared = Declared(self.keyword, item, is_many, False, self.default, self.option)
        if problem := next(filter(None, map(declared.problem, values)), None):
            raise ValueError(problem)
        return tuple(map(int, values)) if is_many else values[0]

    def in_words(self, value: Setting) -> str:
        """A value for a sentence: 20 %."""
        return f"{100 * value:g} %" if self.is_share and not isinstance(value, tuple) else written(value)


def written(value: Setting) -> str:
    """A value as it can be typed: 0.1, or 2,3,4."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def share_of_lowest(default: float) -> Parameter:
    """The share of the lowest values that is kept."""
    return Parameter("fraction", default, Option("the share of the tokens that counts", above=0, most=1), is_share=True)
