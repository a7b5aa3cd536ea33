"""The tokenizer that a checkpoint's files describe, not one that a library makes anew from the name of a class."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kdaudit.errors import CheckpointError

FILE = "tokenizer.json"
SENTENCE_PIECES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
"""Names under which models of SentencePiece lie; the first is also that of tables that tiktoken reads."""
OTHERS = (FILE, "vocab.json", "vocab.txt")
"""What transformers reads by itself."""
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def check_readable(folder: Path, name: str) -> None:
    """Refuse a tokenizer that lies in the file of a library that is not installed.

    Without SentencePiece, transformers takes its files for tables of tiktoken, and asks for that.

    Args:
        folder: of the tokenizer.
        name: of the checkpoint.

    Raises:
        CheckpointError: naming the file and the package.
    """
    path = next((folder / one for one in SENTENCE_PIECES if (folder / one).is_file()), None)
    if path is None or any((folder / one).is_file() for one in OTHERS):
        return
    with path.open("rb") as file:
        is_table = file.read(1) != b"\n"  # a model of SentencePiece begins with its first piece, whose tag is this byte
    needed = ("tiktoken",) if is_table else ("sentencepiece", "google.protobuf")
    lacking = [module for module in needed if not _is_installed(module)]
    if lacking:
        packages = [module.rpartition(".")[2] for module in lacking]
        raise CheckpointError(
            f"the tokenizer of {name} is {path.name} alone, which {needed[0]} reads; not installed: "
            f"{', '.join(packages)}",
            hint=f"pip install {' '.join(packages)}; or save it as {FILE} (a fast tokenizer, by save_pretrained)",
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it lies in
        return False


def as_filed(loaded: Any, folder: Path) -> Any:
    """`loaded`, or where its pipeline is not that of tokenizer.json, a tokenizer with the pipeline of the file.

    transformers takes the vocabulary of the file and, for most classes, its own normaliser, pre-tokenizer and special
    tokens: texts are split otherwise than the model has learnt. Neither the file's truncation nor its padding is kept.

    Args:
        loaded: as `AutoTokenizer` gives it: names of special tokens and the chat template are taken from it.
        folder: of the checkpoint; without a tokenizer.json nothing says otherwise than `loaded`.

    Raises:
        ValueError: the file holds another thing than a tokenizer. Other errors of the library are as it raises them.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    path = folder / FILE
    if not path.is_file():
        return loaded
    try:
        backend = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no other kind
        raise ValueError(f"{FILE}: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    if loaded.is_fast and _pipeline(loaded.backend_tokenizer) == backend.to_str():
        return loaded
    roles = {
        role: token for role in ROLES if (token := getattr(loaded, role)) and backend.token_to_id(token) is not None
    }
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=loaded.chat_template,
        model_max_length=loaded.model_max_length,
        padding_side=loaded.padding_side,
        truncation_side=loaded.truncation_side,
        clean_up_tokenization_spaces=loaded.clean_up_tokenization_spaces,
        **roles,
    )
    made._tokenizer = backend  # what the class has changed in its copy
    made.name_or_path = loaded.name_or_path
    return made


def _pipeline(backend: Any) -> str:
    backend.no_truncation()
    backend.no_padding()
    text: str = backend.to_str()
    return text
