"""How much is read at once: the context window that all models of a run share, and the tokens of a batch."""

from __future__ import annotations

from collections.abc import Iterable

from kdaudit.errors import ConfigError
from kdaudit.models.checkpoint import Checkpoint

DEFAULT_WINDOW = 2048  # tokens, where no model states a context
CPU_BATCH_TOKENS = 4096
ACCELERATOR_BATCH_TOKENS = 16384


def shared_window(max_tokens: int | None, checkpoints: Iterable[Checkpoint]) -> int:
    """Tokens that every model reads at once, or fewer where --max-tokens says so.

    Args:
        max_tokens: as the user gave it.
        checkpoints: of all models of the run.

    Raises:
        ConfigError: --max-tokens is more than the smallest context.
    """
    smallest = min((one for one in checkpoints if one.context), key=lambda one: one.context or 0, default=None)
    if smallest is None or smallest.context is None:
        return max_tokens or DEFAULT_WINDOW
    if max_tokens and max_tokens > smallest.context:
        raise ConfigError(
            f"--max-tokens: {max_tokens} is more than {smallest.name} reads at once ({smallest.context})",
            hint=f"leave it out, or give at most {smallest.context}",
        )
    return max_tokens or smallest.context


def scoring_batch_tokens(device: str) -> int:
    """Tokens of a batch without gradients that suit a device."""
    return CPU_BATCH_TOKENS if device == "cpu" else ACCELERATOR_BATCH_TOKENS
