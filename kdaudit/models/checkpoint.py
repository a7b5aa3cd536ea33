"""Checkpoints on disk: found and fingerprinted, no weights in memory."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdaudit.errors import CheckpointError, ModelError
from kdaudit.foreign import is_file, is_folder, reading, reason
from kdaudit.models.added_tokens import says_tokens, vocabulary_of
from kdaudit.models.altered import read_alteration, read_config
from kdaudit.models.gguf import count_gguf, place_of
from kdaudit.models.hub import locate, path_of
from kdaudit.models.kinds import auto_class, kind_of
from kdaudit.models.sizes import check_settings
from kdaudit.models.weights import (
    ADAPTER_CONFIG,
    count_weights,
    name_files,
    read_json,
    sha256_files,
    sha256_text,
    shapes_in,
    weight_files,
)

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
COUNTED_AFTER_PADDING = {
    *("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "xmod", "data2vec-text"),
    *("ibert", "longformer", "esm"),
}
BASED = ("--teacher", "--student", "--model")
"""Options beside which one for the base of an adapter stands: --teacher-base."""
LOAD_BYTES = {"4bit": 0.6, "8bit": 1.1}  # per weight, with scales and what stays unquantised


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on disk, found and fingerprinted; no weights in memory."""

    name: str
    """As the user gave it, without the revision."""
    folder: Path
    """Or the GGUF file that it is."""
    revision: str | None
    """The commit of a Hub checkpoint."""
    weights_sha256: str
    """Over the contents of the weight files, an adapter's base included."""
    files_sha256: str
    """Over the contents of its own weight files, without an adapter's base."""
    config_sha256: str
    """Over config.json, an adapter's own and its base's, and over the checkpoint's code where it is trusted."""
    n_parameters: int
    n_bytes: int
    dtype: str
    """In which most weights are stored: float32, float16, bfloat16; of a GGUF file also Q8_0 and the like."""
    architecture: str
    kind: str
    """causal, masked or seq2seq: which outputs predict which tokens."""
    context: int | None
    """Tokens that the model can read at once, special tokens included; None where nothing limits it."""
    hidden_size: int
    n_layers: int
    vocab_size: int
    model_type: str = ""
    """As transformers names it."""
    decoder_start: int | None = None
    """The token that the decoder of an encoder-decoder reads first; None where nothing says it."""
    base: Checkpoint | None = None
    """What an adapter stands on."""
    load: str | None = None
    """How it computes: 4bit, 8bit, another quantisation that it is stored in, or None: whole."""
    stored: str | None = None
    """The quantisation that its files hold, or None."""
    is_gguf: bool = False
    """Whether it is a GGUF file: its weights are dequantised when they are loaded."""
    allow_pickle: bool = False
    trust_remote_code: bool = False
    is_recorded: bool = False
    """Whether it is known from an earlier run alone: its files may be gone, and are not looked at."""

    @property
    def fingerprint(self) -> str:
        """A hash over everything in the folder that can change a log-probability, and over how it is loaded."""
        kind = [] if self.kind == "causal" else [self.kind]
        return sha256_text(json.dumps([self.weights_sha256, self.config_sha256, self.load, *kind]))

    def describe(self) -> dict[str, Any]:
        """What a manifest or a results file says of it."""
        return {
            "name": self.name,
            "revision": self.revision,
            "fingerprint": self.fingerprint,
            "weights_sha256": self.weights_sha256,
            "architecture": self.architecture,
            "kind": self.kind,
            "n_parameters": self.n_parameters,
            "stored_dtype": self.dtype,
            "context": self.context,
            "load": self.load,
            "base": self.base.describe() if self.base else None,
        }

    @property
    def whole_dtype(self) -> str:
        """A precision that holds its weights as they are: of a GGUF file, dequantised, float32."""
        return "float32" if self.is_gguf else self.dtype

    def memory_bytes(self, dtype: str, *, is_dequantised: bool = False) -> float:
        """Expected bytes of the weights in memory, packed ones dequantised or as they are stored."""
        if self.stored is not None and not is_dequantised:
            return self.n_bytes
        per_weight = LOAD_BYTES.get(self.load or "" if self.stored is None else "", {"float32": 4.0}.get(dtype, 2.0))
        return self.n_parameters * per_weight


def find(
    name: str,
    *,
    option: str,
    load: str | None = None,
    base: str | None = None,
    kind: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    is_hashed: bool = True,
) -> Checkpoint:
    """Find a checkpoint (a folder, a GGUF file, or a Hub id with or without @revision) and fingerprint it.

    Args:
        name: as the user gave it.
        option: that named it.
        load: 4bit, 8bit or None: as it is stored.
        base: what an adapter stands on; None: what its adapter_config.json says.
        kind: as which kind of model it is read (causal, masked, seq2seq); None: as its architecture says.
        allow_pickle: whether pickled weights are read.
        trust_remote_code: whether code that the checkpoint brings is run.
        is_hashed: whether its weights are read; else its fingerprint is good for this machine and day alone.

    Raises:
        CheckpointError: it is not a checkpoint: no such folder, no weights, no tokenizer, only pickled weights, or no
            model of the wanted kind; or a base was given for a whole model.
        ModelError: the Hub cannot be reached, or a file in it is damaged.
    """
    folder, commit = locate(name, option, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
    bare_name = name.rpartition("@")[0] if commit and "@" in name else name
    weights = weight_files(folder, option, allow_pickle=allow_pickle)
    under = None
    if is_file(folder / ADAPTER_CONFIG):
        trust: dict[str, Any] = {"allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
        under = _find_base(folder, option, given=base, kind=kind, is_hashed=is_hashed, **trust)
    elif base is not None:
        raise CheckpointError(
            f"{option}-base: only an adapter stands on a base, and {name} is a whole model",
            hint=f"leave {option}-base out, or give an adapter (a folder with {ADAPTER_CONFIG}) by {option}",
        )
    elif not is_file(folder) and not is_file(folder / "config.json"):
        raise CheckpointError(f"{option}: {folder} has no config.json", hint="save it with save_pretrained")
    if under is None and not is_file(folder) and not has_tokenizer(folder):
        raise CheckpointError(
            f"{option}: {folder} has no tokenizer",
            hint=f"save the tokenizer beside the weights: tokenizer.save_pretrained('{folder}')",
        )
    is_one_file = is_file(folder)
    n_parameters, n_bytes, dtype = count_gguf(folder, option) if is_one_file else count_weights(weights, option)
    digest = sha256_files(weights) if is_hashed else name_files(weights)
    if under is not None:
        _check_load(load, under.stored, option, name)
        adapter_config = sha256_files([folder / ADAPTER_CONFIG])
        return replace(
            under,
            name=bare_name,
            folder=folder,
            revision=commit,
            weights_sha256=sha256_text(digest + under.weights_sha256),
            files_sha256=digest,
            config_sha256=sha256_text(adapter_config + under.config_sha256),
            n_parameters=n_parameters + under.n_parameters,
            n_bytes=n_bytes + under.n_bytes,
            vocab_size=_vocabulary(under, folder, weights, option),
            base=under,
            load=load or under.stored,
        )
    what = f"{option}: the {'configuration' if is_one_file else 'config.json'} of {folder}"
    if not is_one_file:
        check_settings(read_json(folder / "config.json", option), what)
    config = _read_config(folder, option, trust_remote_code=trust_remote_code)
    alteration = read_alteration(folder, option)  # of a changed model the code is kdaudit's, and kdaudit never runs it
    code = sorted(folder.glob("*.py")) if trust_remote_code and alteration is None else []
    original = alteration.architecture if alteration else None
    with reading(f"{what} cannot be used", CheckpointError):
        found_kind = kind_of(config, bare_name, option, wanted=kind, original=original)
        text_config = config.get_text_config()
        stored = _stored(config, folder, option)
    _check_load(load, "gguf" if is_one_file else stored, option, name)
    if stored is not None:
        n_parameters = _count_unpacked(config, option, folder, found_kind, trust_remote_code=trust_remote_code)
    with reading(f"{what} cannot be used", CheckpointError):
        return Checkpoint(
            name=bare_name,
            folder=folder,
            revision=commit,
            weights_sha256=digest,
            files_sha256=digest,
            config_sha256=digest if is_one_file else sha256_files([folder / "config.json", *code]),
            n_parameters=n_parameters,
            n_bytes=n_bytes,
            dtype=dtype,
            architecture=(getattr(config, "architectures", None) or [config.model_type])[0],
            kind=found_kind,
            context=_context(text_config, getattr(config, "model_type", "")),
            hidden_size=int(getattr(text_config, "hidden_size", 0) or 0),
            n_layers=int(getattr(text_config, "num_hidden_layers", 0) or 0),
            vocab_size=int(getattr(text_config, "vocab_size", 0) or 0),
            model_type=str(alteration.model_type if alteration else getattr(config, "model_type", "")),
            decoder_start=_decoder_start(config, folder, option) if found_kind == "seq2seq" else None,
            load=load or stored,
            stored=stored,
            is_gguf=is_one_file,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
        )


def _vocabulary(base: Checkpoint, folder: Path, weights: list[Path], option: str) -> int:
    """Tokens that a base with the adapter in `folder` knows: an adapter may add some to it."""
    settings, shapes = read_json(folder / ADAPTER_CONFIG, option), shapes_in(weights, option)
    if not says_tokens(shapes, settings):
        return base.vocab_size
    config = _read_config(base.folder, option, trust_remote_code=base.trust_remote_code)
    empty = _empty(config, option, base.folder, base.kind, trust_remote_code=base.trust_remote_code)
    return vocabulary_of(shapes, settings, empty, f"{option}: the adapter {folder}") or base.vocab_size


def _stored(config: Any, folder: Path, option: str) -> str | None:
    """The quantisation that config.json names, None for none.

    Raises:
        CheckpointError: transformers knows no such method and would take the packed numbers for weights.
    """
    found = getattr(config, "quantization_config", None)
    if found is None:
        return None
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    settings = found if isinstance(found, dict) else found.to_dict() if hasattr(found, "to_dict") else {}
    method = settings.get("quant_method")
    method = getattr(method, "value", method)
    if settings.get("load_in_4bit") is True and method in {None, "bitsandbytes"}:
        return "4bit"
    if settings.get("load_in_8bit") is True and method in {None, "bitsandbytes"}:
        return "8bit"
    if not isinstance(method, str) or method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        raise CheckpointError(
            f"{option}: {folder / 'config.json'} names a quantisation that transformers does not know: {method!r}",
            hint="save the checkpoint unquantised, or in a format that transformers reads",
        )
    return method


def _check_load(load: str | None, stored: str | None, option: str, name: str) -> None:
    if load is not None and stored is not None and load != stored:
        raise CheckpointError(
            f"{option}: {name} is stored quantised ({stored}) and cannot be loaded in {load}",
            hint=f"leave {option.split()[0]}-load out: it is loaded as it is stored",
        )


def _count_unpacked(config: Any, option: str, folder: Path, kind: str, *, trust_remote_code: bool) -> int:
    """Weights of the model that packed files describe; no memory is taken."""
    model = _empty(config, option, folder, kind, trust_remote_code=trust_remote_code)
    return sum(weight.numel() for weight in model.parameters())


def _empty(config: Any, option: str, folder: Path, kind: str, *, trust_remote_code: bool) -> Any:
    """The model that a configuration describes, as it is without quantisation, with shapes and no memory."""
    import torch

    plain = copy.deepcopy(config)
    if getattr(plain, "quantization_config", None) is not None:
        del plain.quantization_config
    try:
        with torch.device("meta"):
            return auto_class(kind).from_config(plain, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, AttributeError) as error:
        raise CheckpointError(f"{option}: the model of {folder} cannot be built: {reason(error)}") from error


def _find_base(
    folder: Path,
    option: str,
    *,
    given: str | None,
    kind: str | None,
    allow_pickle: bool,
    trust_remote_code: bool,
    is_hashed: bool,
) -> Checkpoint:
    """The base of the adapter in `folder`: as given, else where its adapter_config.json says."""
    trust: dict[str, Any] = {"allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
    name = given or _base_name(folder, option)
    part = f"{option} (base)" if given is None else f"{option}-base"
    try:
        base_folder, _ = locate(name, part, **trust)
    except (CheckpointError, ModelError) as error:
        way = f"; or say where the base lies now: {option}-base DIR" if given is None and option in BASED else ""
        raise type(error)(str(error), hint=f"{error.hint}{way}") from error
    if is_file(base_folder / ADAPTER_CONFIG):  # before it is looked into: it may be the adapter itself
        raise CheckpointError(
            f"{option}: the base of the adapter {folder} is an adapter itself ({name})",
            hint="merge the base first (peft: merge_and_unload, then save_pretrained)",
        )
    return find(name, option=part, kind=kind, is_hashed=is_hashed, **trust)


def _base_name(folder: Path, option: str) -> str:
    """What adapter_config.json calls the base; a relative path is seen from the working directory or from `folder`."""
    settings = read_json(folder / ADAPTER_CONFIG, option)
    name = settings.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        way = f"say what its base is: {option}-base DIR" if option in BASED else ""
        raise CheckpointError(f"{option}: adapter_config.json of {folder} names no base_model_name_or_path", hint=way)
    here, beside = path_of(name), folder / name
    if is_folder(here) and is_folder(beside) and not here.samefile(beside):
        raise CheckpointError(
            f"{option}: adapter_config.json of {folder} names the base {name}, and there are two of that name: "
            f"{beside} and {here.resolve()}",
            hint=f"say which: {option}-base DIR"
            if option in BASED
            else "write its whole path into adapter_config.json",
        )
    if is_folder(beside):
        return str(beside)
    return f"{name}@{settings['revision']}" if settings.get("revision") and not is_folder(here) else name


def _read_config(folder: Path, option: str, *, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig

    alteration = read_alteration(folder, option)
    with reading(f"{option}: the config.json of {folder} cannot be used", CheckpointError):
        if alteration is not None:
            return read_config(folder, alteration, option)
        try:
            place, told = place_of(folder)
            told |= {"local_files_only": True, "trust_remote_code": trust_remote_code}
            return AutoConfig.from_pretrained(place, **told)
        except ValueError as error:
            if "trust_remote_code" not in str(error):
                raise
            raise CheckpointError(
                f"{option}: the config.json of {folder} cannot be used: {reason(error)}",
                hint="the checkpoint brings its own code: read it, then pass --trust-remote-code",
            ) from error


def _context(config: Any, model_type: str) -> int | None:
    """Tokens that a model reads at once; RoBERTa and its kin count positions from the one after the padding token."""
    padding = getattr(config, "pad_token_id", None)
    n_before = padding + 1 if model_type in COUNTED_AFTER_PADDING and isinstance(padding, int) and padding >= 0 else 0
    for name in (
        "max_position_embeddings",
        "n_positions",
        "max_sequence_length",
        "max_seq_len",
        "seq_length",
        "max_decoder_position_embeddings",
    ):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return max(1, value - n_before)
    return None


def _decoder_start(config: Any, folder: Path, option: str) -> int | None:
    """The first token of a decoder; newer releases of transformers write it into generation_config.json."""
    path = folder / "generation_config.json"
    generation = read_json(path, option) if is_file(path) else {}
    name = "decoder_start_token_id"
    found = getattr(config, name, None)
    found = generation.get(name) if found is None else found
    if found is None and str(getattr(config, "model_type", "")).startswith("t5gemma"):
        found = getattr(config.decoder, "bos_token_id", None)  # as its models shift labels
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer of its own."""
    return any(is_file(folder / name) for name in TOKENIZER_FILES) or any(folder.glob("*.tiktoken"))
