"""A model and its tokenizer in a folder, as plain transformers or peft loads them; whole or absent."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdaudit.artefacts import remove_leftovers, waiting_name, writing
from kdaudit.models.altered import save

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_student(model: PreTrainedModel | Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save weights (safetensors), configuration and tokenizer; files of other names in the folder stay.

    Args:
        model: a transformers model, or a peft model, of which the adapter alone is saved.
        tokenizer: its own.
        folder: where; it is made.

    Raises:
        DiskFullError: no space is left.
        OutputError: the folder cannot be written.
    """
    waiting = waiting_name(folder)
    with writing(folder):
        try:
            remove_leftovers(folder)
            shutil.rmtree(waiting, ignore_errors=True)
            waiting.mkdir(parents=True)
            for settings in getattr(model, "peft_config", {}).values():
                if isinstance(settings.target_modules, set):  # whose order is another one in every process
                    settings.target_modules = sorted(settings.target_modules)
            save(model, waiting)
            tokenizer.save_pretrained(waiting)
            (waiting / "README.md").unlink(missing_ok=True)  # peft's empty model card: kdaudit writes its own
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(waiting.iterdir(), key=lambda path: (path.name == "config.json", path.name)):
                os.replace(path, folder / path.name)
        finally:
            shutil.rmtree(waiting, ignore_errors=True)
