"""The pages that lead through a task are executed as they are written, on what the demo leaves behind."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kdaudit.cli.docs import pages

CODES = {
    "tutorial": [1, 0, 0, 0],
    "chat-student": [0, 1, 0, 0, 0],
    "ci-gate": [0, 1, 0, 0, 0, 0],
    "paper-table": [0, 0, 0],
}
"""By page: the exit codes of its commands, in their order."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    run("kdaudit demo", folder, code=0)
    return folder / "kdaudit-demo"


def run(line: str, folder: Path, *, code: int) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == code, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", CODES)
def test_a_page_does_what_it_says(page: str, demo: Path, tmp_path: Path) -> None:
    shutil.copytree(demo, tmp_path / "kdaudit-demo")
    codes = iter(CODES[page])
    for language, block in re.findall(r"```(sh|python|toml)\n(.*?)```", pages()[page], re.DOTALL):
        if language == "toml":
            (tmp_path / "kdaudit.toml").write_text(block, encoding="utf-8")
        elif language == "python":
            (tmp_path / "block.py").write_text(block, encoding="utf-8")
            run("python block.py", tmp_path, code=0)
        else:
            for line in block.replace("\\\n", " ").splitlines():
                run(line, tmp_path, code=next(codes))
    assert list(codes) == []
