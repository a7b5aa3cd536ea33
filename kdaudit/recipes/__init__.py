"""Students that other tools trained: what their configurations say, and a manifest for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kdaudit.recipes import axolotl, distillkit, nemo, trl
from kdaudit.recipes.recipe import Recipe, TrainerConfig

TRAINERS: Mapping[str, Callable[[TrainerConfig], Recipe]] = {
    "trl": trl.read,
    "nemo": nemo.read,
    "distillkit": distillkit.read,
    "axolotl": axolotl.read,
}
"""By the name that --from takes: what reads the configuration of the tool."""
