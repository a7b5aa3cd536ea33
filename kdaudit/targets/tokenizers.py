"""Whether two tokenizers are the same."""

from __future__ import annotations

from typing import Any

from kdaudit.errors import KdauditError

PROBE_TEXTS = [
    "The 3 quick brown foxes' naïve café – 中文 didn't jump; x = y_1 + 42.\n\tEnd",
    "2024 1234567 3.14159 0x7F 10:45 €1,299.00",
    "  leading, DOUBLE  and trailing   \n\n\n  ALL CAPS camelCase snake_case I'M we'LL ﬁ ① e\u0301 Ⅷ  ",
    "<b>if (a != b) { return a->next; }</b> https://example.org/?q=1&r=2 user@example.org 😀👍🏽",
    "Ünïcödé Straße ﬀ İstanbul Ελληνικά русский العربية हिन्दी ไทย 日本語 한국어 \uff11\uff12\uff13",
]
"""Where tokenizers differ that look alike: numbers, cases, accents, spaces, code, scripts."""

CASED = ["The Patient Reports PAIN in her Left Knee", "NASA, Ohio and McDonald's"]


def ignores_case(tokenizer: Any) -> bool:
    """Whether a text in lower case has the same tokens, on the probe texts."""
    lowered = [text.lower() for text in CASED]
    return bool(tokenizer(CASED)["input_ids"] == tokenizer(lowered)["input_ids"])


def check_known(largest: int, n_known: int, name: str, *, option: str = "", error: type[KdauditError]) -> None:
    """Refuse a tokenizer that gives tokens which the model has no embedding for.

    Args:
        largest: the largest token that the texts have.
        n_known: tokens of the model; 0 where nothing says it.
        name: of the model.
        option: that named it, if a message should say so.
        error: what is raised.

    Raises:
        KdauditError: of that kind.
    """
    if 0 < n_known <= largest:
        named = f"{option}: " if option else ""
        raise error(
            f"{named}the tokenizer gives token {largest}, but {name} knows {n_known} tokens",
            hint="the tokenizer in the checkpoint's folder is not the one that the model was trained with",
        )


def described(tokenizer: Any) -> str:
    """All that its own files say of a tokenizer: two with one description are the same."""
    return _pipeline(tokenizer) + repr(tokenizer.special_tokens_map)


def is_same(one: Any, other: Any) -> bool:
    """Whether two tokenizers know the same words and split every text alike, by their files or on the probe texts."""
    if one.get_vocab() != other.get_vocab():
        return False
    return _pipeline(one) == _pipeline(other) or one(PROBE_TEXTS)["input_ids"] == other(PROBE_TEXTS)["input_ids"]


def _pipeline(tokenizer: Any) -> str:
    text: str = tokenizer.backend_tokenizer.to_str()
    return text
