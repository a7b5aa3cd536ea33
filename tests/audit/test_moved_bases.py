"""Bases of adapters that lie elsewhere than the adapters say, in audits, distillations and comparisons."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kdaudit import manifest
from tests.commands import Given, check_refused, kdaudit, results
from tests.distill.students import Recipe

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


@pytest.fixture
def moved(recipe: Recipe, tmp_path: Path) -> tuple[Recipe, Path, Path]:
    """A recipe, a student that is an adapter, and where its base lies now."""
    start = shutil.copytree(recipe.start, tmp_path / "start")
    done = recipe.distill(tmp_path / "student", "--lora", 2, start=("--student", start))
    assert done.code == 0, done.err
    start.rename(tmp_path / "elsewhere")
    return recipe, tmp_path / "student", tmp_path / "elsewhere"


def test_an_adapter_with_a_moved_base_is_audited_with_its_base_as_its_reference(
    moved: tuple[Recipe, Path, Path], given: Given, tmp_path: Path
) -> None:
    recipe, student, base = moved
    lost = recipe.attack(student, tmp_path / "run")
    check_refused(lost, "--student (base): there is no folder", "--student-base DIR")
    done = recipe.attack(student, tmp_path / "run", "--attack", "reference", "--student-base", base)
    assert done.code == 0, done.err
    about = results(tmp_path / "run")["models"]["student"]
    assert about["base"]["name"] == about["reference"]["name"] == str(base)
    whole = recipe.attack(student, tmp_path / "other", "--student-base", base, "--teacher-base", base)
    check_refused(whole, "--teacher-base: only an adapter stands on a base")


def test_an_adapter_with_a_moved_base_teaches_and_is_compared(moved: tuple[Recipe, Path, Path], tmp_path: Path) -> None:
    recipe, teacher, base = moved
    options = ("--teacher-saw", "none", "--epochs", 2, "--holdout", 20, "--quiet")
    files = ("--teacher", teacher, "--student", base, "--train", recipe.train, "--out", tmp_path / "taught")
    given = ("distill", *files, *options)
    check_refused(kdaudit(*given), "--teacher (base): there is no folder", "--teacher-base DIR")
    done = kdaudit(*given, "--teacher-base", base)
    assert done.code == 0, done.err
    content = manifest.load(tmp_path / "taught" / manifest.FILE_NAME).content
    assert content["teacher"]["base"]["name"] == str(base)
    few = ("--method", "soft-only", "--seeds", 1, "--plain-epochs", 1, "--quiet")
    done = kdaudit("mitigate", "--from", tmp_path / "taught", "--out", tmp_path / "compared", *few)
    assert done.code in {0, 3}, done.err
    assert json.loads((tmp_path / "compared" / "mitigation.json").read_text())
