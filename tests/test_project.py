"""The package as a whole: what the wheel carries, and which places must agree on a version."""

import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

import kdaudit

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a freshly built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("kdaudit-*.whl")
    with ZipFile(path) as archive:
        return set(archive.namelist())


def test_the_wheel_carries_every_template(wheel: set[str]) -> None:
    templates = [path for path in (ROOT / "templates").rglob("*") if path.is_file()]
    assert templates
    assert {f"kdaudit/templates/{path.relative_to(ROOT / 'templates').as_posix()}" for path in templates} <= wheel


def test_the_wheel_carries_the_package_and_nothing_else(wheel: set[str]) -> None:
    assert {"kdaudit/__init__.py", "kdaudit/py.typed"} <= wheel
    assert {name.split("/")[0] for name in wheel} == {"kdaudit", f"kdaudit-{kdaudit.__version__}.dist-info"}


def test_constraints_pin_every_direct_dependency_within_its_range() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.lower().replace("_", "-").split("==") for line in lines if line and not line.startswith("#"))
    for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pins[requirement.name.lower().replace("_", "-")]), line
