"""Long rows of numbers as short texts: nothing is lost, and nothing that is no row passes for one."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.errors import ConfigError
from kdaudit.metrics.bootstrap import DECIMALS
from kdaudit.metrics.estimate import QUANTILE_GRID, Difference, lower_bound, upper_bound
from kdaudit.results import from_json, load, save, to_json
from kdaudit.results.packed import SHORTEST, packed, unpacked
from tests.report.reports import LEAKY

WHOLE = st.integers(-(2**53) + 1, 2**53 - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=64).filter(lambda value: abs(value) < 2**53)
ROUNDED = st.floats(-100, 100).map(lambda value: round(value, DECIMALS))
ROWS = st.one_of(*(st.lists(kind, min_size=SHORTEST, max_size=40) for kind in (WHOLE, FINITE, ROUNDED)))


@given(ROWS)
def test_a_row_comes_back_exactly(row: list[float]) -> None:
    text = packed({"quantiles": row})["quantiles"]
    assert isinstance(text, str)
    assert unpacked(text) == row
    assert [type(value) for value in unpacked(text)] == [type(row[0])] * len(row)


def test_a_short_row_and_a_row_of_another_key_stay_lists() -> None:
    layout = {"quantiles": [0.5] * (SHORTEST - 1), "limits": [0.5] * SHORTEST, "gates": [{"tpr": [1.0] * SHORTEST}]}
    found = packed(layout)
    assert (found["quantiles"], found["limits"]) == (layout["quantiles"], layout["limits"])
    assert isinstance(found["gates"][0]["tpr"], str)


@pytest.mark.parametrize(
    "text",
    [
        *("", "0.5", "6:107", "7:16:abc", "6:1000000:abc", "6:16:\u20ac", "6:16:abc", "f:16:abc", "-1:16:abc"),
        *(f"{kind}:{n}:{packed({'tpr': [0.25] * 20})['tpr'].split(':', 2)[2]}" for kind, n in (("6", 19), ("f", 20))),
    ],
)
def test_a_text_that_is_no_row_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="packed row"):
        unpacked(text)


def test_a_row_of_millions_in_a_short_text_is_refused_before_it_is_spelled_out() -> None:
    bomb = packed({"tpr": [0] * 90_000})["tpr"].replace("0:90000:", "0:16:")
    assert len(bomb) < 500
    with pytest.raises(ValueError, match="more than it says"):
        unpacked(bomb)


def test_a_bound_at_any_level_is_the_same_from_the_file_and_from_a_file_of_an_earlier_version(tmp_path: Path) -> None:
    result = LEAKY
    rough = Difference(0.1, 0.0, 0.2, 0.01, quantiles=tuple(math.tanh(level) / 3 for level in QUANTILE_GRID))
    smooth = replace(rough, quantiles=tuple(round(level, DECIMALS) for level in QUANTILE_GRID))
    name, attack = next(iter(result.attacks.items()))
    for known in (rough, smooth):
        found = replace(attack.comparison["student"], figures={"auc": known})
        changed = replace(attack, comparison={**attack.comparison, "student": found})
        written = replace(result, attacks={**result.attacks, name: changed})
        save(written, tmp_path / "results.json")
        (tmp_path / "earlier.json").write_text(json.dumps(to_json(written), indent=2), encoding="utf-8")
        assert load(tmp_path / "results.json") == load(tmp_path / "earlier.json") == written
        for level in (0.5, 0.95, 0.9973, 0.99999):
            read = load(tmp_path / "results.json").attacks[name].comparison["student"].figures["auc"]
            assert lower_bound(read, level) == lower_bound(known, level)
            assert upper_bound(read, level) == upper_bound(known, level)
        assert len((tmp_path / "results.json").read_bytes()) < len((tmp_path / "earlier.json").read_bytes()) / 2


def test_a_damaged_row_is_named_with_its_place() -> None:
    layout = packed(to_json(LEAKY))
    name = next(iter(layout["attacks"]))
    layout["attacks"][name]["curves"]["student"]["fpr"] = "6:20:damaged"
    with pytest.raises(ConfigError, match=rf"attacks\.{name}\.curves\.student\.fpr: .*packed row"):
        from_json(layout)


@pytest.mark.parametrize("row", [[0, 5, 5, 90, 1] * 4, [0.25, -1.5, 0.123456, 1.0] * 5, [1 / 3, 1e300, -2.0, 0.0] * 4])
def test_the_documentation_reads_a_row(row: list[float]) -> None:
    page = (Path(__file__).parents[2] / ".github" / "docs" / "results.md").read_text(encoding="utf-8")
    code: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], code)
    assert code["numbers"](packed({"tpr": row})["tpr"]) == row
