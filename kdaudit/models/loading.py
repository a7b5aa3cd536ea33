"""Loading a checkpoint: its tokenizer, and its weights one model at a time."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from kdaudit.config import DTYPES, FLASH
from kdaudit.errors import CheckpointError, ConfigError, ModelError
from kdaudit.foreign import reading, reason
from kdaudit.models.adapters import with_adapter
from kdaudit.models.altered import model_class, read_alteration, read_config
from kdaudit.models.checkpoint import Checkpoint, has_tokenizer
from kdaudit.models.devices import Placement, Sizes, Spread, check_divisible, place, told_of
from kdaudit.models.fit import check_fit
from kdaudit.models.gguf import place_of, without_bar
from kdaudit.models.kinds import WORDS, auto_class, is_of_kind
from kdaudit.models.repeatable import check_repeats, switch_off_sampling
from kdaudit.models.sizes import check_built, in_words
from kdaudit.models.tokenizer import as_filed, check_readable
from kdaudit.models.weights import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """The checkpoint's own tokenizer; an adapter without one uses its base's.

    Raises:
        CheckpointError: it cannot be loaded, or gives no offsets (a slow tokenizer).
    """
    from transformers import AutoTokenizer  # imports torch: not at the top

    has_own = checkpoint.base is None or has_tokenizer(checkpoint.folder)
    folder = checkpoint.folder if has_own or checkpoint.base is None else checkpoint.base.folder
    check_readable(folder, checkpoint.name)
    alteration = read_alteration(folder, checkpoint.name)
    config = alteration and read_config(folder, alteration, checkpoint.name)  # else its model type is unknown
    with reading(f"the tokenizer of {checkpoint.name} cannot be loaded", CheckpointError):
        place, told = place_of(folder)
        made = AutoTokenizer.from_pretrained(
            place, local_files_only=True, trust_remote_code=checkpoint.trust_remote_code, config=config, **told
        )
        tokenizer: PreTrainedTokenizerBase = as_filed(made, folder)
        tokenizer("a")  # settings that no text survives would show themselves only there
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"the tokenizer of {checkpoint.name} gives no character offsets",
            hint="save it as a fast tokenizer (tokenizer.json)",
        )
    switch_off_sampling(tokenizer)
    return tokenizer


def choose_device(wanted: str) -> str:
    """The device to compute on; `auto` takes cuda, then mps, then cpu.

    Raises:
        ConfigError: the device is not there.
    """
    import torch

    has_cuda = torch.cuda.is_available()
    has_mps = torch.backends.mps.is_available()
    if wanted == "auto":
        return "cuda" if has_cuda else "mps" if has_mps else "cpu"
    if (wanted.startswith("cuda") and not has_cuda) or (wanted == "mps" and not has_mps):
        raise ConfigError(f"--device: there is no {wanted} device here", hint="leave --device out, or use --device cpu")
    return wanted


def take_gpu(number: int) -> None:
    """Let `cuda` mean one GPU for each process of a host, where there are several; figures do not depend on which.

    Args:
        number: of this process among those of the host.
    """
    import torch

    if (n_gpus := torch.cuda.device_count()) > 1:
        torch.cuda.set_device(number % n_gpus)


def check_attention(attention: str | None, dtype: str, *, only_plan: bool = False) -> None:
    """Refuse attention that cannot be computed here.

    Args:
        attention: as --attention says.
        dtype: of the run.
        only_plan: nothing is computed here.

    Raises:
        ConfigError: its package or a GPU is not there, or it does not compute in this precision.
    """
    if attention is None or not attention.startswith(FLASH):
        return
    if dtype == "float32":
        raise ConfigError(
            f"--attention {attention}: it does not compute in float32", hint="give --dtype bfloat16 or float16"
        )
    from transformers.utils import import_utils

    is_second = attention.endswith("2")
    is_there = import_utils.is_flash_attn_2_available if is_second else import_utils.is_flash_attn_3_available
    if not only_plan and not is_there():
        raise ConfigError(
            f"--attention {attention}: it needs a GPU and the package {'flash-attn' if is_second else 'flash-attn-3'}",
            hint="leave it out, or give --attention sdpa",
        )


def attention_of(checkpoint: Checkpoint) -> str:
    """The attention that config.json asks for, "" where it leaves that to transformers."""
    whole = checkpoint.base or checkpoint
    said = {} if whole.is_gguf else read_json(whole.folder / "config.json", whole.name)
    return str(said.get("attn_implementation") or "")


def choose_dtype(wanted: str, device: str, checkpoints: Mapping[str, Checkpoint]) -> str:
    """One dtype for all models of an audit; `auto` is float32 on a CPU, else what all of them are stored in."""
    if wanted != "auto":
        return wanted
    stored = {checkpoint.dtype for checkpoint in checkpoints.values()}
    is_one = len(stored) == 1 and stored <= {*DTYPES}  # else a quantisation of GGUF
    return stored.pop() if device != "cpu" and is_one else "float32"


@contextmanager
def loaded(
    checkpoint: Checkpoint,
    *,
    device: str,
    dtype: str,
    placement: Placement | None = None,
    spread: Spread | None = None,
    attention: str | None = None,
) -> Iterator[PreTrainedModel]:
    """The model in memory, in eval mode, for the length of a `with` block.

    Its weights are given back at the end, whoever still holds the model.

    Raises:
        CheckpointError: its language-model head is not in its files.
        ModelError: it cannot be loaded, or the checkpoint lacks weights that would then be random.
    """
    import torch

    model = load(checkpoint, device=device, dtype=dtype, placement=placement, spread=spread, attention=attention)
    try:
        yield model
    finally:
        for name, _ in tuple(model.named_children()):
            delattr(model, name)  # the caller's own name for the model outlives the block
        del model
        gc.collect()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()


def load(
    checkpoint: Checkpoint,
    *,
    device: str,
    dtype: str,
    placement: Placement | None = None,
    spread: Spread | None = None,
    attention: str | None = None,
) -> PreTrainedModel:
    """The model in memory, in eval mode, without gradients, for as long as the caller holds it.

    Args:
        checkpoint: to load.
        device: where it lies, if on one.
        dtype: in which it computes.
        placement: on which devices its parts lie; None: all on `device`.
        spread: whether processes hold it together; all of them call this then.
        attention: how it is computed; None: as transformers decides.

    Raises:
        CheckpointError: its language-model head is not in its files.
        ModelError: it cannot be loaded, the checkpoint lacks weights that would then be random, or it draws by chance.
    """
    import torch

    whole = checkpoint.base or checkpoint
    what = f"{checkpoint.name} cannot be loaded"
    with reading(what, ModelError):
        loading, how = loader(whole)
    shapes = None if whole.is_gguf else _shapes(whole, loading, how)
    folder, told = place_of(whole.folder)
    spread_over = told_of(placement, spread)
    with (
        reading(what, ModelError), _saying_what_memory_needs(checkpoint), _hiding_advice_on_pickles(checkpoint),
        without_bar() if whole.is_gguf else nullcontext(),
    ):  # fmt: skip
        model, info = loading.from_pretrained(
            folder,
            **how,
            **told,
            **({} if attention is None else {"attn_implementation": attention}),
            dtype=getattr(torch, dtype),
            local_files_only=True,
            use_safetensors=None if checkpoint.allow_pickle or whole.is_gguf else True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # else the reason goes into a log, not into the error: they are refused below
            **{**quantisation(checkpoint, device, dtype, shapes), **spread_over},
        )
        if checkpoint.load is None and not spread_over:
            model.to(device)
        elif checkpoint.load is not None:
            _without_packing(model)
    check_whole(model, info, whole)
    if checkpoint.base is not None:
        model = with_adapter(model, checkpoint)
    model.eval()
    model.requires_grad_(False)
    check_repeats(model, checkpoint.name)
    return model  # type: ignore[no-any-return]


def check_whole(model: PreTrainedModel, info: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Refuse a model that does not hold what its files hold, or that holds what they do not.

    Args:
        model: as loaded.
        info: what transformers says of it: keys that were missing, unexpected, or of another size.
        checkpoint: what was loaded, an adapter's base.

    Raises:
        CheckpointError: its language-model head is not in its files.
        ModelError: any other weight is not, or is of another size, or would be left out.
    """
    for key, stored, described in sorted(info["mismatched_keys"])[:1]:
        raise ModelError(
            f"{checkpoint.name}: {key} is {_size(stored)} in the files, and config.json describes {_size(described)}",
            hint="the configuration is not that of these weights: download or save the checkpoint again",
        )
    _check_complete(model, sorted(info["missing_keys"]), checkpoint)
    check_fit(model, info["unexpected_keys"], checkpoint)


def _check_complete(model: PreTrainedModel, lacking: Sequence[str], checkpoint: Checkpoint) -> None:
    """Refuse a model that transformers has filled up with random numbers, and say so apart of a head."""
    if not lacking:
        return
    body = model.base_model_prefix
    if hasattr(model, body):
        is_head = not any(name.startswith(f"{body}.") for name in lacking)
    else:  # T5 and its kin have no module of all but the head
        is_head = all(name.startswith("lm_head") for name in lacking)
    named = f"{', '.join(lacking[:3])}{' and others' if len(lacking) > 3 else ''}"
    if is_head:
        raise CheckpointError(
            f"{checkpoint.name} has no language-model head: {len(lacking)} weights of it are not in its files and "
            f"would be random: {named}",
            hint=f"give a checkpoint that was saved as {WORDS[checkpoint.kind]}: sentence encoders and bodies for "
            "fine-tuning have no head",
        )
    raise ModelError(
        f"{checkpoint.name} lacks {len(lacking)} weights that would be random: {named}",
        hint=f"this is not the checkpoint of {WORDS[checkpoint.kind]}, or it was saved incompletely",
    )


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


@contextmanager
def _saying_what_memory_needs(checkpoint: Checkpoint) -> Iterator[None]:
    import torch

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ModelError(
            f"{checkpoint.name} does not fit into memory: {reason(error)}",
            hint="try --teacher-load 4bit or --student-load 4bit, or --device cpu",
        ) from error


@contextmanager
def _hiding_advice_on_pickles(checkpoint: Checkpoint) -> Iterator[None]:
    """Torch's own message on a pickle that holds more than weights advises to let the file run code."""
    try:
        yield
    except (UnpicklingError, EOFError) as error:
        raise ModelError(f"the pickled weights of {checkpoint.name} are damaged or hold more than weights") from error


def placed(checkpoint: Checkpoint, *, device: str, dtype: str, spread: Spread, states: int) -> Placement | None:
    """Where the parts of a model will lie; None where processes hold it together. Nothing but config.json is read.

    Args:
        checkpoint: to be loaded.
        device: the kind that computes.
        dtype: in which it computes.
        spread: how it lies on several devices.
        states: bytes of the largest batch.

    Raises:
        ConfigError: processes cannot hold it together: an adapter, a quantised one, an architecture without a plan.
        ModelError: it cannot be built.
    """
    import torch
    from transformers.quantizers.auto import get_hf_quantizer

    whole = checkpoint.base or checkpoint
    if whole.is_gguf:
        raise ConfigError(
            f"--device-map {spread.way}: {checkpoint.name} is a GGUF file, which is dequantised on one device",
            hint="give the checkpoint that it was made of",
        )
    with reading(f"{checkpoint.name} cannot be loaded", ModelError):
        loading, how = loader(whole)
        empty = built_empty(whole, loading, how)
    if not spread.limits:
        _check_held_together(checkpoint)
        check_divisible(empty, checkpoint.name, spread.n_processes)
        return None
    with reading(f"{checkpoint.name} cannot be loaded", ModelError):
        empty.to(getattr(torch, dtype))
        quantiser: Any = None
        where: Any = {"": device}
        if checkpoint.load is not None:
            packing = quantisation(checkpoint, device, dtype, empty).get("quantization_config")
            quantiser = get_hf_quantizer(empty.config, packing, where, weights_only=True, user_agent={})[0]
        if quantiser is not None:
            quantiser.preprocess_model(
                model=empty, dtype=getattr(torch, dtype), device_map=where, checkpoint_files=None, use_kernels=False
            )
        beside = checkpoint.n_bytes - whole.n_bytes if checkpoint.base is not None else 0  # of an adapter
        return place(empty, Sizes(quantiser), spread.limits, states + beside)


def _check_held_together(checkpoint: Checkpoint) -> None:
    kinds = (("an adapter", checkpoint.base), (f"quantised ({checkpoint.load})", checkpoint.load))
    for words, is_so in kinds:
        if is_so:
            raise ConfigError(
                f"--device-map tp: {checkpoint.name} is {words}, which processes cannot hold together",
                hint="give --device-map auto",
            )


def why_not(checkpoint: Checkpoint, placement: Placement) -> str:
    """Why a model cannot lie so; "" where it can."""
    lacking = sum(share.weights for share in placement.shares if share.limit is None)
    if lacking:
        return f"{in_words(lacking)} of its weights fit on no device"
    if placement.spilled and checkpoint.load is not None:
        return (
            f"{in_words(placement.spilled)} of its weights would lie on the CPU, where the layers of a model that "
            "computes on GPUs cannot be quantised"
        )
    if placement.spilled and checkpoint.base is not None:
        return (
            f"{in_words(placement.spilled)} of its weights would lie on the CPU, where a base takes no adapter; "
            "merge the adapter first (peft: merge_and_unload, then save_pretrained)"
        )
    return ""


def _shapes(checkpoint: Checkpoint, loading: Any, how: Mapping[str, Any]) -> PreTrainedModel | None:
    """The model without weights in memory; None where it cannot be built.

    Raises:
        ModelError: its configuration describes far more weights than its files hold.
    """
    try:
        model = built_empty(checkpoint, loading, how)
    except Exception:  # it fails again, and says why, where the model itself is loaded
        return None
    check_built(model, checkpoint.name, checkpoint.n_bytes)
    return model


def built_empty(checkpoint: Checkpoint, loading: Any, how: Mapping[str, Any]) -> PreTrainedModel:
    """The model that config.json describes, on the meta device: it has shapes, and takes no memory.

    Args:
        checkpoint: no adapter.
        loading: what loads it, as `loader` gives it with the next.
        how: what that is told.

    Raises:
        Exception: whatever a library raises over a configuration that it cannot build.
    """
    import torch
    from transformers import AutoConfig
    from transformers.initialization import no_init_weights

    with torch.device("meta"), no_init_weights():
        if "config" in how:
            model: PreTrainedModel = loading(how["config"])
        else:
            config = AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True, **how)
            model = loading.from_config(config, **how)
    return model


def loader(checkpoint: Checkpoint) -> tuple[Any, dict[str, Any]]:
    """What `from_pretrained` is called on, and what it is told about the architecture."""
    alteration = read_alteration(checkpoint.folder, checkpoint.name)
    if alteration is None:
        return auto_class(checkpoint.kind), {"trust_remote_code": checkpoint.trust_remote_code}
    if not is_of_kind(alteration.architecture, checkpoint.kind):
        raise ModelError(
            f"{checkpoint.name} is not {WORDS[checkpoint.kind]} but a changed {alteration.architecture}",
            hint="leave --as out, and it is read as what it is",
        )
    return model_class(alteration), {"config": read_config(checkpoint.folder, alteration, checkpoint.name)}


def _without_packing(model: Any) -> None:
    """Keep bitsandbytes from repacking 4-bit weights on CPUs that know AVX512-BF16.

    It would do so in eval mode: scores would depend on the kind of CPU, layers of odd sizes would fail, and a model
    that is trained afterwards would pass no gradient through its quantised layers, without a word.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def quantisation(
    checkpoint: Checkpoint, device: str, dtype: str, shapes: PreTrainedModel | None = None
) -> dict[str, Any]:
    """What `from_pretrained` is told of how a checkpoint is to compute; nothing where it computes whole.

    Args:
        checkpoint: quantised or not.
        device: to compute on.
        dtype: to compute in.
        shapes: the model without weights: the head of a masked one stays as it is; None: it cannot be built.
    """
    load = checkpoint.load
    if (checkpoint.base or checkpoint).is_gguf:
        from transformers import GgufConfig

        return {"quantization_config": GgufConfig(dequantize=True)}
    if load is None:
        return {}
    if checkpoint.stored is not None:  # its config.json says how
        return {"device_map": {"": device}}
    import torch
    from transformers import BitsAndBytesConfig

    kept = {"llm_int8_skip_modules": _head(shapes) if shapes is not None and checkpoint.kind == "masked" else None}
    config = (
        BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, dtype), **kept
        )
        if load == "4bit"
        else BitsAndBytesConfig(load_in_8bit=True, **kept)
    )
    return {"quantization_config": config, "device_map": {"": device}}


def _head(model: PreTrainedModel) -> list[str] | None:
    """The parts of a masked model's head; MobileBERT's multiplies by its weights as they lie, packed or not."""
    inside = set(model.base_model.modules())
    outside = {name: part for name, part in model.named_modules() if part not in inside}
    return [name for name, part in outside.items() if next(part.children(), None) is None] or None
