"""The tokenizer that a checkpoint's files describe, not one that a library makes anew from the name of a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FILE = "tokenizer.json"
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


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
