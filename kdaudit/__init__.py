"""Audits language models for membership inference: the teacher and the students distilled from it.

In Python: `audit` and `distill` run the commands of these names, on files or on texts in memory; `load_results`,
`load_scores` and `to_pandas` give the figures of a run; `judge` holds gates against them. `kdaudit docs python` shows
how. Nothing heavy is imported before a name is used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdaudit.api import Distilled as Distilled
    from kdaudit.api import audit as audit
    from kdaudit.api import distill as distill
    from kdaudit.api import judge as judge
    from kdaudit.api import load_results as load_results
    from kdaudit.api import load_scores as load_scores
    from kdaudit.api import to_pandas as to_pandas
    from kdaudit.errors import KdauditError as KdauditError
    from kdaudit.results import AuditResult as AuditResult
    from kdaudit.results import Verdict as Verdict

__version__ = "0.1.0"

_HOMES = {
    **dict.fromkeys(("audit", "distill", "judge", "load_results", "load_scores", "to_pandas", "Distilled"), "api"),
    **dict.fromkeys(("AuditResult", "Verdict"), "results"),
    "KdauditError": "errors",
}
_STAGES = frozenset({"audit", "distill"})
"""Functions that have the name of the subpackage which does their work."""

__all__ = [
    "AuditResult",
    "Distilled",
    "KdauditError",
    "Verdict",
    "__version__",
    "audit",
    "distill",
    "judge",
    "load_results",
    "load_scores",
    "to_pandas",
]


if not TYPE_CHECKING:  # else every attribute would seem to be there

    def __getattr__(name: str) -> Any:
        """A name of the face, imported when it is first used (PEP 562)."""
        if name in _STAGES:
            return import_module(f"kdaudit.{name}")
        if name in _HOMES:
            return getattr(import_module(f"kdaudit.{_HOMES[name]}"), name)
        raise AttributeError(f"module 'kdaudit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)


class _Stage(ModuleType):
    """A subpackage that is called as the function of its name: importing it binds its name, whoever does so."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._function(*args, **options)

    @property
    def _function(self) -> Any:
        return getattr(import_module("kdaudit.api"), self.__name__.rpartition(".")[2])

    @property
    def __signature__(self) -> Any:
        """What a notebook shows of it."""
        from inspect import signature

        return signature(self._function)


class _Package(ModuleType):
    """This package, told by the import system of every subpackage that was imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _STAGES and type(value) is ModuleType:
            value.__class__ = _Stage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
