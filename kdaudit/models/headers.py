"""Whether a checkpoint can be loaded, as far as its config.json and the headers of its files tell; no weight is read.

Every model of a run is looked at so before the first one is scored: a student without a head is refused before its
teacher has read all texts.
"""

from __future__ import annotations

import warnings
from typing import Any

from safetensors import safe_open

from kdaudit.errors import CheckpointError, ModelError
from kdaudit.foreign import reading
from kdaudit.models.adapters import with_adapter
from kdaudit.models.checkpoint import Checkpoint
from kdaudit.models.loading import built_empty, check_whole, loader, quantisation
from kdaudit.models.quantised import check_marked, check_readable_here
from kdaudit.models.sizes import check_built
from kdaudit.models.weights import SAFE, read_json, weight_files

PACKED = {"4bit": (".quant_map", ".quant_state."), "8bit": (".SCB",)}
"""By quantisation of bitsandbytes: parts of names that stand in the files of packed weights alone."""


def check_headers(checkpoint: Checkpoint, device: str) -> None:
    """Refuse a checkpoint that could not be loaded, or that lacks weights which would then be random.

    transformers is asked itself, with tensors that have a shape and no content: it knows its old names of weights and
    which ones are tied. Pickled files and those that are stored quantised are looked at when they are loaded.

    Args:
        checkpoint: what is to be loaded.
        device: where it is to compute.

    Raises:
        CheckpointError: its language-model head is not in its files, or its config.json names a quantisation that they
            do not have.
        ModelError: it cannot be built, lacks weights, or a library that its quantisation needs is not there.
    """
    whole = checkpoint.base or checkpoint
    what = f"{checkpoint.name} cannot be loaded"
    files = weight_files(whole.folder, whole.name, allow_pickle=whole.allow_pickle)
    is_safe = all(path.suffix == SAFE for path in files)
    stored = _headers(files) if is_safe else {}
    if is_safe:
        _check_packing(whole, stored)
    if whole.stored is not None:
        check_readable_here(whole.stored, whole.name, device)
    with reading(what, ModelError):
        _quantiser(checkpoint, device)
    if whole.stored is not None or not is_safe:
        return
    with reading(what, ModelError):
        loading, how = loader(whole)
        empty = built_empty(whole, loading, how)
    check_built(empty, whole.name, whole.n_bytes)
    kind: Any = type(empty)
    try:
        model, info = kind.from_pretrained(
            None, config=empty.config, state_dict=stored, device_map={"": "meta"}, output_loading_info=True,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    except Exception:  # a rule of loading that needs contents, or code of the checkpoint: loading itself will say
        return
    lacking = {*info["missing_keys"], *_tied_against_its_will(model, whole, stored)}
    check_whole(model, {**info, "missing_keys": lacking}, whole)
    if checkpoint.base is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says of every weight that an empty model does not take it
            with_adapter(model, checkpoint)


def _headers(files: list[Any]) -> dict[str, Any]:
    """Tensors without content, by name, of the dtype and shape that stand in the files."""
    import torch
    from transformers.modeling_utils import str_to_torch_dtype

    found = {}
    for path in files:
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping
                entry = tensors.get_slice(name)
                dtype = str_to_torch_dtype.get(entry.get_dtype(), torch.uint8)  # else packed
                found[name] = torch.empty(entry.get_shape(), dtype=dtype, device="meta")
    return found


def _tied_against_its_will(model: Any, checkpoint: Checkpoint, stored: dict[str, Any]) -> set[str]:
    """A head that config.json tells apart from the embeddings and that no file holds: of T5 transformers ties it."""
    is_apart = read_json(checkpoint.folder / "config.json", checkpoint.name).get("tie_word_embeddings") is False
    is_tied = bool(getattr(model.config, "tie_word_embeddings", False))
    tied = set(getattr(model, "all_tied_weights_keys", ())) if is_apart and is_tied else set()
    return {"lm_head.weight"} & tied - set(stored)


def _check_packing(checkpoint: Checkpoint, stored: dict[str, Any]) -> None:
    """Refuse whole weights under a config.json that says they are packed: bitsandbytes would fall over them."""
    marks = PACKED.get(checkpoint.stored or "", ())
    if marks and not any(mark in name for name in stored for mark in marks):
        raise CheckpointError(
            f"the config.json of {checkpoint.name} says that its weights are stored in {checkpoint.stored}, and its "
            "files hold them whole",
            hint="take quantization_config out of its config.json; --teacher-load and --student-load "
            f"{checkpoint.stored} quantise whole weights",
        )
    check_marked(checkpoint.stored or "", checkpoint.name, stored)


def is_dequantised(checkpoint: Checkpoint, device: str) -> bool:
    """Whether packed weights compute as whole ones on a device, as transformers decides by its kernels.

    Args:
        checkpoint: which `check_headers` has passed.
        device: where it is to compute.

    Raises:
        ModelError: its configuration cannot be used.
    """
    if (checkpoint.base or checkpoint).stored is None:
        return False
    with reading(f"{checkpoint.name} cannot be loaded", ModelError):
        found = _quantiser(checkpoint, device)
        return bool(getattr(getattr(found, "quantization_config", None), "dequantize", False))


def _quantiser(checkpoint: Checkpoint, device: str) -> Any:
    """What transformers reads packed weights with, which says whether libraries and device are there.

    Raises:
        Exception: as transformers raises it.
    """
    if checkpoint.load is None:
        return None
    from transformers import AutoConfig
    from transformers.quantizers.auto import get_hf_quantizer

    whole = checkpoint.base or checkpoint
    _, told = loader(whole)
    config = told.get("config") or AutoConfig.from_pretrained(whole.folder, local_files_only=True, **told)
    how = quantisation(checkpoint, device, "float32")
    packing = how.get("quantization_config")
    return get_hf_quantizer(config, packing, how["device_map"], weights_only=True, user_agent={})[0]
