"""What an attack is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from kdaudit.attacks.settings import Parameter, Setting
from kdaudit.signals.tokens import TokenSignals
from kdaudit.views.view import PLAIN, View


@dataclass(frozen=True, slots=True)
class Sample:
    """All that an attack may know of one record under one target model."""

    text: str
    """The text as scored: what was left of the record after the cut that all models share."""

    target: Mapping[View, TokenSignals]
    """The target's signals, one entry per view of a single text that the attack asks for."""

    reference: TokenSignals | None = None
    """The reference model's signals on the plain view, where the attack needs a reference."""

    variants: Mapping[View, tuple[TokenSignals, ...]] = field(default_factory=dict)
    """The target's signals on every variant of a view that shows several, in the order in which the view makes them."""

    is_same_tokenizer: bool = True
    """Whether target and reference split the text into the same tokens, so that position t means the same."""


@dataclass(frozen=True, slots=True)
class Attack:
    """A membership-inference attack.

    `score` maps a sample to a float, larger meaning more likely a member, for every attack alike. It
    returns NaN when the sample cannot be scored; the audit counts those, and no attack replaces one
    by a number.
    """

    name: str
    score: Callable[..., float]
    """Called with a sample. It has a keyword for every parameter."""
    summary: str
    """One line for `--list-attacks`: what the score is, with the parameters by their keywords in braces."""
    source: str
    views: tuple[View, ...] = (PLAIN,)
    needs_reference: bool = False
    needs_same_tokenizer: bool = False
    """Token-wise comparison with the reference: not applicable across tokenizers."""
    needs_case: bool = False
    """Not applicable where the tokenizer does not tell capitals from small letters."""
    idea: str = ""
    """The same for a reader who knows no formula, in one sentence that reports show."""
    version: int = 1
    """Raised whenever a change moves a score."""
    parameters: tuple[Parameter, ...] = ()
    """What `--set` can change."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """By the name of a parameter: its value, where that is another than the default."""

    def tuned(self, settings: Mapping[str, Setting]) -> Attack:
        """The same attack with other values of some parameters, by their names."""
        known = {one.name: one for one in self.parameters}
        chosen = {name: value for name, value in settings.items() if value != known[name].default}
        keywords = {known[name].keyword: value for name, value in chosen.items()}
        return replace(self, score=partial(self.score, **keywords), settings=chosen) if chosen else self

    @property
    def values(self) -> dict[str, Setting]:
        """Every parameter with its value."""
        return {one.name: self.settings.get(one.name, one.default) for one in self.parameters}

    @property
    def described(self) -> str:
        """The summary with the values of the parameters in it."""
        values = self.values
        return self.summary.format(**{one.keyword: one.in_words(values[one.name]) for one in self.parameters})

    @property
    def n_passes(self) -> int:
        """Texts that a target is shown of each record."""
        return sum(view.n_variants for view in self.views)

    @property
    def needs_shots(self) -> bool:
        """Whether non-members are needed that stand before the texts."""
        return any(view.is_prefixed for view in self.views)
