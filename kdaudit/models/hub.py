"""Where a checkpoint lies: a folder, or a Hub id that is downloaded into the cache."""

from __future__ import annotations

import os
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from kdaudit.errors import CheckpointError, ModelError
from kdaudit.foreign import reason
from kdaudit.models.gguf import is_gguf
from kdaudit.models.weights import PICKLE_PATTERNS

REVISION = re.compile(r"\w[\w.+/-]*")
"""The library reads the file of that name in its cache, and of one that begins with / any file, /dev/zero for one."""
SHOWN = 100  # characters
METADATA_PATTERNS = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja")


def locate(name: str, option: str, *, allow_pickle: bool, trust_remote_code: bool) -> tuple[Path, str | None]:
    """The folder of a checkpoint, or the GGUF file that it is, and, for one of the Hub, its commit.

    Raises:
        CheckpointError: it is neither a folder nor a Hub id.
        ModelError: the Hub cannot be reached or does not give it.
    """
    check_place(name, option)
    path = path_of(name)
    if os.path.isdir(path) or os.path.isfile(path):
        return path, None
    repository, _, revision = name.partition("@")
    return _download(repository, revision or None, option, allow_pickle=allow_pickle, code=trust_remote_code)


def check_place(name: str, option: str) -> None:
    """Refuse what is neither a folder or a GGUF file here nor the form of a Hub id; nothing is fetched.

    Raises:
        CheckpointError: saying which of them it is not.
    """
    path = path_of(name)
    if os.path.isdir(path):  # unlike Path.is_dir, also answers for what can be no path at all
        return
    if os.path.isfile(path):
        if is_gguf(path):
            return
        raise CheckpointError(
            f"{option}: {name} is a file",
            hint="give the folder that holds config.json and the weights, or a .gguf file",
        )
    repository, _, revision = name.partition("@")
    if name.startswith((".", "/", "~")) or repository.count("/") > 1 or "\\" in name or not repository:
        raise CheckpointError(f"{option}: there is no folder {name}", hint="give a checkpoint folder or a Hub id")
    if revision and (REVISION.fullmatch(revision) is None or ".." in revision):
        raise CheckpointError(
            f"{option}: {revision[:SHOWN]!r} is not a revision of {repository}",
            hint="a revision is a commit, a branch or a tag of the Hub repository",
        )


def path_of(name: str) -> Path:
    """A name as a path, its `~` resolved; unlike Path.expanduser, also of a user that does not exist."""
    return Path(os.path.expanduser(name))


def _download(
    repository: str, revision: str | None, option: str, *, allow_pickle: bool, code: bool
) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.safetensors", *METADATA_PATTERNS, *(PICKLE_PATTERNS if allow_pickle else ())]
    command = f"hf download {repository}" + (f" --revision {revision}" if revision else "")
    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=[*patterns, *(["*.py"] if code else [])],
            ignore_patterns=["*/*"],
        )
    except HFValidationError as error:
        raise CheckpointError(
            f"{option}: '{repository}' is neither a folder nor a Hub id", hint="a Hub id looks like owner/name"
        ) from error
    except LocalEntryNotFoundError as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise ModelError(
            f"{option}: {repository} is not a folder here and not in the local cache, and the Hub cannot be reached"
            f"{offline}",
            hint=f"where there is a network, run: {command}",
        ) from error
    except HfHubHTTPError as error:
        raise ModelError(
            f"{option}: the Hub does not give {repository}: {reason(error)}",
            hint=f"check the name and the revision; for a private one run: hf auth login; then: {command}",
        ) from error
    except (OSError, _connection_error()) as error:
        raise ModelError(f"{option}: {repository} cannot be downloaded: {reason(error)}", hint=command) from error
    return Path(folder), Path(folder).name


def _connection_error() -> type[Exception]:
    """What the Hub's client raises where a connection breaks: releases differ in the library that they build on."""
    name = "httpx2" if find_spec("httpx2") else "httpx"
    error: type[Exception] = import_module(name).HTTPError
    return error
