"""A checkpoint that tests copy and damage."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("checkpoints") / "base")


@pytest.fixture
def copied(base: Path, tmp_path: Path) -> Callable[[], Path]:
    return lambda: shutil.copytree(base, tmp_path / "copy")
