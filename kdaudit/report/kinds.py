"""What masked models and encoder-decoders read of a text, and what their figures are made of, in sentences."""

from __future__ import annotations

from kdaudit.results import AuditResult

PSEUDO = (
    "Log-likelihoods are pseudo-log-likelihoods: of every hidden token, given what its pass shows. A perplexity made "
    "of them is a pseudo-perplexity. Neither can be compared with those of a causal model or of another mask plan."
)
PAIRED = (
    "Encoder-decoders: the encoder reads the prompt, and the tokens of the completion are scored, each given the "
    "prompt and the tokens before it. Special tokens are read and not scored."
)


def reading(result: AuditResult) -> list[str]:
    """How the models were shown the texts, and what that means for the figures; nothing of causal models.

    Attacks that are not defined for a kind of model stand with their reasons among the cells without a figure.
    """
    kind = next((model.kind for model in result.models.values()), "causal")
    masking = result.data.masking
    if kind == "masked":
        plan = f" Mask plan {masking}." if masking else ""
        return [
            f"Masked models: a token is predicted where it stands, while it is hidden.{plan}",
            *_passes(result),
            PSEUDO,
        ]
    if kind == "seq2seq" and masking:
        return [
            f"Encoder-decoders on texts without prompts, mask plan {masking}. The encoder reads a sentinel in "
            "the place of each run of hidden tokens; the decoder writes what it stands for, which is scored.",
            *_passes(result),
            PSEUDO,
        ]
    return [PAIRED] if kind == "seq2seq" else []


def _passes(result: AuditResult) -> list[str]:
    counts = [f"{name} {n:,}" for name, n in result.data.passes.items()]
    return [f"Passes of a text in all views: {', '.join(counts)}."] if counts else []
