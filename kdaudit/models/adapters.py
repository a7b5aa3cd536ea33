"""Adapters put into their base, and what of their settings is tried before a library reads it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kdaudit.errors import CheckpointError, ModelError
from kdaudit.foreign import reading
from kdaudit.models.added_tokens import check_embedded, resize, whole_embeddings
from kdaudit.models.checkpoint import Checkpoint
from kdaudit.models.sizes import check_rank
from kdaudit.models.weights import ADAPTER_CONFIG, read_json

SECONDS = 5
"""To match all patterns against all names, which takes milliseconds; some patterns never come to an end."""
_TRIAL = """
import json, re, sys
patterns, names = json.load(sys.stdin)
for pattern in patterns:
    for name in names:
        re.fullmatch(pattern, name), re.match(rf"(.*\\.)?({pattern})$", name)
"""
"""As peft matches them."""


def with_adapter(model: Any, checkpoint: Checkpoint) -> Any:
    """The base model with the adapter of a checkpoint in it.

    Raises:
        CheckpointError: its settings cannot be meant.
        ModelError: it cannot be loaded or does not fit its base.
    """
    from peft import PeftConfig, PeftModel  # ten seconds: only for adapters
    from peft.utils.save_and_load import load_peft_weights

    folder = str(checkpoint.folder)
    what = f"the adapter {checkpoint.name} cannot be loaded"
    names = [name for name, _ in model.named_modules()]
    settings = read_json(checkpoint.folder / ADAPTER_CONFIG, checkpoint.name)
    if checkpoint.base is not None:
        check_rank(settings, checkpoint.hidden_size, checkpoint.n_parameters - checkpoint.base.n_parameters, what)
    check_patterns(settings, names, what)
    with reading(what, ModelError, hint="look at its adapter_config.json, or save the adapter again"):
        n_before = resize(model, checkpoint.vocab_size) if _adds_tokens(checkpoint) else 0
        given = load_peft_weights(folder, device="cpu")
        embeddings = whole_embeddings(given, model)
        config: Any = PeftConfig.from_pretrained(folder)
        if config.is_prompt_learning:
            raise ModelError(
                f"{checkpoint.name} is a prompt-learning adapter ({config.peft_type.value})",
                hint="kdaudit reads adapters that change weights, such as LoRA",
            )
        config.inference_mode = True
        adapted = PeftModel(model, config)
        lacking: set[str] = set()
        adapted.register_load_state_dict_post_hook(lambda _, found: lacking.update(found.missing_keys))
        try:
            found = adapted.load_adapter(folder, "default")  # unlike from_pretrained, says what did not fit
        except KeyError as error:  # peft looks its parts up by what the settings say
            raise ModelError(
                f"{what}: its adapter_config.json promises {error.args[0]}, and its file does not hold it",
                hint="save the adapter again, or take the part out of modules_to_save or trainable_token_indices",
            ) from error
    copies = [*found.unexpected_keys, *embeddings]  # of tied weights peft writes several, and the last one would count
    strangers = [*found.missing_keys, *(name for name in copies if not _is_there(adapted, name, given.get(name)))]
    if strangers:
        raise ModelError(
            f"the adapter {checkpoint.name} does not fit its base: {len(strangers)} weights ({strangers[0]}, ...)",
            hint=f"it was trained on another model than {checkpoint.base.name if checkpoint.base else ''}",
        )
    if n_before:
        check_embedded(adapted, lacking, n_before, what)
    return adapted.get_base_model()


def _adds_tokens(checkpoint: Checkpoint) -> bool:
    return checkpoint.base is not None and checkpoint.vocab_size != checkpoint.base.vocab_size


def _is_there(adapted: Any, name: str, given: Any) -> bool:
    """Whether a tensor of an adapter's file is a second copy of a weight that the model has in this very place.

    peft writes trained embeddings twice, and tied ones once more under the name of the head, and reads one of them.
    """
    place: Any = adapted
    for part in name.split("."):
        place = getattr(place, part, None)
        if type(place).__name__ in {"ModuleDict", "ParameterDict"} and "default" in place:
            place = place["default"]
    if given is None or getattr(place, "shape", None) != given.shape:
        return False
    return bool(place.is_meta or (place.cpu() == given.to(place.dtype)).all())


def check_patterns(settings: Mapping[str, Any], names: Sequence[str], what: str) -> None:
    """Refuse an adapter whose patterns take forever on the names of the parts of its base.

    Args:
        settings: the content of adapter_config.json.
        names: of the parts.
        what: begins the message.

    Raises:
        CheckpointError: they take more time than matching can need.
    """
    patterns = [one for one in _patterns(settings) if re.fullmatch(r"[\w.-]*", one) is None]
    if not patterns:
        return
    command = [sys.executable, "-I", "-S", "-c", _TRIAL]
    given = json.dumps([patterns, names]).encode()
    try:
        subprocess.run(command, input=given, stderr=subprocess.DEVNULL, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(
            f"{what}: matching its patterns (target_modules and the like) takes more than {SECONDS} seconds",
            hint="write the names of the parts out in its adapter_config.json",
        ) from error


def _patterns(settings: Mapping[str, Any]) -> Iterator[str]:
    for name in ("target_modules", "exclude_modules", "layers_pattern", "rank_pattern", "alpha_pattern"):
        value = settings.get(name)
        of: Iterable[Any] = [value] if isinstance(value, str) else value if isinstance(value, list | dict) else []
        yield from (one for one in of if isinstance(one, str))
