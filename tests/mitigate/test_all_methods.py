"""Every method of the table keeps its contract."""

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import kdaudit.mitigate
from kdaudit.distill.settings import DistillConfig
from kdaudit.errors import ConfigError, ExitCode
from kdaudit.mitigate import METHODS, expand
from kdaudit.mitigate.base import Method
from kdaudit.mitigate.settings import MitigateConfig

PLAIN_RUN = DistillConfig(teacher="t", train=("f",), out=Path("o"), student="s", nonmembers=("n",), epochs=2)
NO_METHODS = {"__init__", "base", "settings", "starts", "scoring", "figures", "table", "run", "recipe"}


def standard(method: Method) -> float | None:
    return method.strength.default if method.strength else None


def test_every_file_of_a_method_is_in_the_table() -> None:
    files = {path.stem for path in Path(kdaudit.mitigate.__file__).parent.glob("*.py")} - NO_METHODS
    assert files == {name.replace("-", "_") for name in METHODS}


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_a_method_says_what_it_is_and_changes_one_kind_of_thing(method: Method) -> None:
    assert method.summary
    assert "arXiv:" in method.source
    changes = [bool(method.settings(standard(method))), method.operate is not None, method.select is not None]
    assert sum(changes) == (method.name != "early-stop")


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_what_a_method_sets_can_be_set_in_a_distillation(method: Method) -> None:
    plain = DistillConfig(teacher="t", train=("f",), out=Path("o"), student="s", nonmembers=("n",))
    settings = method.settings(standard(method))
    assert settings.keys() <= asdict(plain).keys()
    assert not settings or replace(plain, **settings).identity() != plain.identity()


def test_strengths_reach_the_settings() -> None:
    given = {"goldfish": 7, "lora": 3, "label_smoothing": 0.2}
    config = MitigateConfig(distill=PLAIN_RUN, methods=("all",), out=Path("o"), strengths=given)
    found = {name: method.settings(config.strength(method)) for name, method in METHODS.items()}
    assert found["goldfish"] == {"goldfish": 7}
    assert found["lora"] == {"lora": 3}
    assert found["label-smoothing"] == {"label_smoothing": 0.2}
    assert found["soft-only"] == {"hard_weight": 0.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bottleneck": 0.0}, "--bottleneck: 0 is neither"),
        ({"bottleneck": -3.0}, "--bottleneck: -3 is neither"),
        ({"bottleneck": 2.5}, "--bottleneck: 2.5 is neither"),
        ({"bottleneck": float("nan")}, "--bottleneck: nan is not a finite number"),
        ({"goldfish": 1}, "--method-goldfish: 1 is too small"),
        ({"lora": 0}, "--method-lora: 0 is too small"),
        ({"label_smoothing": 1.0}, "--method-label-smoothing: 1 lies outside"),
        (
            {"label_smoothing": 0.0, "lora": 0},
            "--method-lora: 0 is too small, the least is 1\n--method-label-smoothing: 0 lies",
        ),
    ],
)
def test_a_strength_out_of_range_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MitigateConfig(distill=PLAIN_RUN, methods=("soft-only",), out=Path("o"), strengths=settings)
    assert message in str(caught.value)
    assert caught.value.exit_code == ExitCode.BAD_INPUT


def test_names_give_methods_in_the_order_of_the_table_each_once() -> None:
    assert [method.name for method in expand(["lora", "bottleneck", "lora"])] == ["bottleneck", "lora"]
    assert expand(["all"]) == expand(["all", "lora"]) == tuple(METHODS.values())


@pytest.mark.parametrize(("names", "hint"), [(["botleneck"], "bottleneck"), ([], "--method all"), (["ALL"], "all")])
def test_a_name_that_is_no_method_is_refused_with_the_nearest_ones(names: list[str], hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        expand(names)
    assert hint in caught.value.hint


def test_the_table_is_read_without_torch() -> None:
    code = "import sys, kdaudit.mitigate; sys.exit(sorted({'torch', 'transformers'} & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
