"""What is random or depends on the day in a checkpoint's files: switched off, pinned, or refused.

The same command must give the same figures tomorrow, and a student must be found again by the hash of its texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, time, tzinfo
from typing import TYPE_CHECKING, Any

from kdaudit.errors import ConfigError, ModelError
from kdaudit.models.devices import input_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHAT_DATE = "2024-07-26"
"""What chat templates are told that today is: the day that Llama 3's own fall back to. Manifests record it."""
PROBE_TOKENS = 128
TOLERANCE = 1e-3
"""A share of the largest logit: sums on an accelerator may come in another order each time."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,}>")


def switch_off_sampling(tokenizer: Any) -> None:
    """Let a fast tokenizer split a text in the one way that it finds best: BPE dropout and Unigram sampling are off.

    Args:
        tokenizer: of transformers, changed in place.
    """
    model = tokenizer.backend_tokenizer.model
    for setting in ("dropout", "alpha", "nbest_size"):
        if getattr(model, setting, None) is not None:
            setattr(model, setting, None)


def read_date(text: object) -> date:
    """A recorded CHAT_DATE.

    Raises:
        ConfigError: it is not a date.
    """
    try:
        return date.fromisoformat(str(text))
    except ValueError as error:
        raise ConfigError(f"the date that chat templates were told is none: {str(text)[:40]!r}") from error


@contextmanager
def pinned_clock(today: date) -> Iterator[None]:
    """Within it a chat template that asks transformers for the time is told midnight of that day."""
    from transformers.utils import chat_template_utils

    class Pinned(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Pinned:
            return cls.combine(today, time(), tz)

    module: Any = chat_template_utils
    own, module.datetime = module.datetime, Pinned  # a function among the template's variables would become a text
    try:
        yield
    finally:
        module.datetime = own


def check_template(template: str | Mapping[str, str]) -> None:
    """Refuse a chat template that draws by chance.

    Raises:
        ConfigError: naming what it draws by.
    """
    for source in [template] if isinstance(template, str) else template.values():
        for name in _drawn(source):
            raise ConfigError(
                f"the chat template draws by chance ({name}): the same records would give other texts each time",
                hint="apply the template yourself and give prompt and completion",
            )


def shows_address(text: str) -> bool:
    """Whether a rendered text shows where an object lies in memory, which is another place each time."""
    return _ADDRESS.search(text) is not None


def check_repeats(model: PreTrainedModel, name: str) -> None:
    """Refuse a model that says something else each time that it reads the same.

    Args:
        model: in eval mode.
        name: for messages.

    Raises:
        ModelError: its logits differ between two passes over the same tokens.
    """
    import torch

    vocabulary = int(getattr(model.config.get_text_config(), "vocab_size", 0) or 0)
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or PROBE_TOKENS
    n_tokens = min(PROBE_TOKENS, vocabulary, int(context) // 2)
    if n_tokens < 1:
        return
    device = input_device(model)
    ids = torch.arange(n_tokens, device=device)[None]
    given = {"input_ids": ids}
    if getattr(model.config, "is_encoder_decoder", False):
        given["decoder_input_ids"] = ids
    devices = [*range(torch.cuda.device_count())] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        try:
            first, second = (model(**given, use_cache=False).logits.float() for _ in range(2))
        except Exception:  # whatever keeps it from reading is told where records are read
            return
    gap = (first - second).abs().nan_to_num().max()
    if float(gap) > TOLERANCE * max(1.0, float(first.abs().nan_to_num().max())):
        raise ModelError(
            f"{name} draws by chance: two passes over the same tokens give logits that differ by {float(gap):.2g}",
            hint="switch its noise off in config.json (for Reformer: hash_seed), else no figure can be repeated",
        )


def _drawn(source: str) -> Iterator[str]:
    """What stands in the expressions of a template and draws by chance: jinja2's filter `random` and `lipsum`."""
    import jinja2

    try:
        tokens = [(kind, value) for _, kind, value in jinja2.Environment().lex(source) if kind not in _SKIPPED]
    except jinja2.TemplateError:  # it is refused where it is rendered
        return
    values = [value for _, value in tokens]
    for position, (kind, value) in enumerate(tokens):
        before = values[max(position - 2, 0) : position]
        is_filter = value == "random" and before[-1:] in (["|"], ["filter"])
        is_mapped = kind == "string" and value[1:-1] == "random" and before == ["map", "("]
        if is_mapped or (kind == "name" and (is_filter or (value == "lipsum" and before[-1:] != ["."]))):
            yield value.strip("'\"")


_SKIPPED = {"whitespace", "comment", "comment_begin", "comment_end"}
