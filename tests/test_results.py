import errno
import json
import math
import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.errors import ConfigError, DiskFullError, ExitCode, OutputError
from kdaudit.metrics import METRICS
from kdaudit.metrics.association import Quarter
from kdaudit.metrics.estimate import QUANTILE_GRID, Difference, Estimate, ExactRate
from kdaudit.metrics.excess import Slopes
from kdaudit.metrics.strongest import Strongest
from kdaudit.results import (
    Agreement,
    Alignment,
    AttackResult,
    AuditedModel,
    AuditedRecords,
    AuditResult,
    Cell,
    CellFinding,
    Comparison,
    Curve,
    Distillation,
    EarlierRun,
    GateResult,
    Histogram,
    Overlap,
    PairedDetections,
    PaperCompat,
    Power,
    Source,
    Supervision,
    TwoByTwo,
    Utility,
    Validity,
    Verdict,
    file,
    from_json,
    load,
    save,
    to_json,
)

AUC = Estimate(0.8125, 0.78, 0.84, 2000, 1988, 0.95, "delong", logit_value=1.466, logit_se=0.1 + 0.2)
TPR = Estimate(
    0.1,
    0.05,
    0.15,
    1400,
    1391,
    0.9,
    method="bootstrap",
    quantiles=tuple(q / 3 for q in QUANTILE_GRID),
    exact=ExactRate(0.01, 3, 2, (10, 12, 140)),
    threshold=-1.5,
    realised_fpr=0.011,
    realised_fpr_low=0.006,
    realised_fpr_high=0.018,
    fixed_threshold_low=0.08,
    fixed_threshold_high=0.12,
)
UNREPORTABLE = Estimate(None, n=1400, m=1391, reason="too few non-members for this rate")
GAIN = Difference(0.02, -0.01, 0.05, 0.2, 0.4, 2000, 1988, method="paired delong", se=0.015)
RISE = Difference(
    0.1, 0.0, 0.2, 0.05, 0.1, 1400, 1391, 0.9, "bootstrap", "a note", quantiles=QUANTILE_GRID, mcnemar_p_value=0.03
)
NULL = Difference(0.2, 0.1, 0.3, 0.001, n=1400, m=1391, level=0.9, method="paired bootstrap")
CELL = Cell(
    "ok",
    figures={
        "auc": AUC,
        "tpr@0.001": UNREPORTABLE,
        "tpr@0.01": TPR,
        "tpr@0.1": replace(TPR, threshold=None),
        "balanced_accuracy": TPR,
        "member_success": TPR,
        "nonmember_success": TPR,
    },
    unscored=3,
    nulls={"blind": {"auc": NULL, "tpr@0.01": NULL}, "start": {"auc": NULL}},
    paper_compat=PaperCompat("in-sample", 0.8125, 0.75, 0.7, 0.8),
)
NOT_APPLICABLE = Cell("not_applicable", "no reference was given")
LOSS = AttackResult(
    1,
    True,
    {
        "teacher": replace(CELL, figures={**CELL.figures, "auc": replace(AUC, value=1.0, high=1.0, is_separable=True)}),
        "student": CELL,
        "student-2": CELL,
    },
    {
        "student": Comparison("ok", figures={"auc": GAIN, **dict.fromkeys(list(METRICS)[2:], RISE)}),
        "student-2": Comparison("ok"),
    },
    {"student": Curve((0.0, 0.5, 1.0), (0.0, 0.8, 1.0), (0.0, 0.7, 1.0), (0.0, 0.9, 1.0))},
    {"student": Histogram((-3.0, -2.0, -1.0), (5, 1995), (1000, 988))},
    {"student": {"members": TwoByTwo(1, 2, 3, 4), "nonmembers": TwoByTwo(5, 6, 7, 8)}},
    {"fraction": 0.5, "windows": [2, 3]},
)
REFERENCE = AttackResult(
    2,
    False,
    dict.fromkeys(["teacher", "student", "student-2"], NOT_APPLICABLE),
    {"student": Comparison("not_applicable", "no reference was given")},
    {},
    {},
    {},
)
ALIGNMENT = Alignment(9, AUC, AUC, AUC, UNREPORTABLE)
UTILITY = Utility(9, 99, {"student": AUC}, {"student": AUC}, {"student": AUC}, Agreement(AUC, AUC), "causal")
RICH = AuditResult(
    kdaudit_version="0.1.0",
    models={
        "teacher": AuditedModel(
            "a/b", 9, "c0ffee", "fp", "5a", "GPT2LMHeadModel", "float32", 256, "4bit", dtype="float32", device="cpu"
        ),
        "student": AuditedModel(
            "s",
            6,
            base=AuditedModel("b", 5),
            distillation=Distillation("forward-kl", 0.5, 2.0, 2.0, 0, 9, "none", UTILITY),
        ),
        "student-2": AuditedModel(
            "s2",
            6,
            reference=AuditedModel("start", 6, fingerprint="ef"),
            kind="masked",
            scored_in=EarlierRun("run", "0.1.0", "ab" * 32),
        ),
    },
    data=AuditedRecords(
        2000,
        1988,
        12,
        "ab" * 32,
        (Source("--members", "m.jsonl", 2000, 2, "cd"),),
        3,
        256,
        6,
        0.3,
        0,
        "pll: of each text its tokens are hidden one after the other",
        {"teacher": 90, "student": 80},
    ),
    attacks={"loss": LOSS, "reference": REFERENCE},
    validity=Validity(
        "ok",
        replace(AUC, value=0.5),
        "tf-idf",
        {"tf-idf": AUC},
        {"members": 2},
        Overlap(13, 0.25, 0.5, 3, 0.1, 9, 0),
        ("a 13-gram overlap above 20 %",),
        {"student": {"loss": AUC}},
        ("the start separates the sets: AUC 0.62",),
        ("white space at the end: 0 % of the members, 100 % of the non-members",),
        20_000,
    ),
    power=Power(0.52, 0.9, 0.7, n=2000, m=1988, cells=4),
    mixed_supervision={
        "student": Supervision(
            "start",
            "",
            ALIGNMENT,
            ALIGNMENT,
            (Quarter(None, 0.1, 5, 6, GAIN), Quarter(0.1, None, 7, 8, RISE)),
            Slopes(AUC, AUC, GAIN),
            PairedDetections("loss", TwoByTwo(1, 2, 3, 4), TwoByTwo(5, 6, 7, 8)),
        )
    },
    verdict=Verdict(
        "fail",
        (
            GateResult(
                "student.auc<=0.6",
                "fail",
                "it lies above the limit",
                "student",
                "auc",
                0.6,
                "loss",
                0.8125,
                0.78,
                "lower",
                0.975,
                ("reference: no reference was given",),
                (
                    CellFinding("loss", "loss", "fail", "", 0.8125, 0.78, "lower", 0.975, "Distill again."),
                    CellFinding("reference", "reference", "not_applicable", "no reference was given"),
                ),
                "Distill again.",
            ),
            GateResult("teacher.auc<=1", "inconclusive", "nothing was measured", "teacher", "auc", 1.0),
        ),
        2,
        "Fail.",
        "Distill again.",
    ),
    config={"seed": 0, "attack": ["loss"], "limit": None},
    strongest={"student": Strongest("loss", 0.8125, 0.79, 0.83, 0.95, 2.25, ("loss", "zlib"))},
    measured="2026-11-26",
)


def test_a_result_comes_back_from_its_file_exactly(tmp_path: Path) -> None:
    save(RICH, tmp_path / "results.json")
    assert load(tmp_path / "results.json") == RICH


def test_the_fixture_sets_every_field_of_every_part() -> None:
    """Else the round trip would not notice a field that the file forgets."""
    seen: dict[type, set[str]] = {}

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for item in value.values():
                walk(item)
        elif isinstance(value, tuple):
            for item in value:
                walk(item)
        elif hasattr(value, "__dataclass_fields__"):
            for part in fields(value):
                item = getattr(value, part.name)
                if item != part.default and item not in ({}, ()):
                    seen.setdefault(type(value), set()).add(part.name)
                walk(item)

    walk(RICH)
    assert {kind.__name__: {part.name for part in fields(kind)} - names for kind, names in seen.items()} == {
        kind.__name__: set() for kind in seen
    }
    assert len(seen) == 30  # every dataclass of a result


finite = st.floats(allow_nan=False, allow_infinity=False)
optional = st.none() | finite
quantiles = st.tuples(finite, finite).map(lambda ends: (ends[0], *QUANTILE_GRID[1:-1], ends[1]))
estimates = st.builds(
    Estimate,
    optional,
    optional,
    optional,
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    finite,
    st.text(max_size=5),
    st.text(max_size=5),
    optional,
    optional,
    st.none() | quantiles,
    st.booleans(),
    st.none() | st.builds(ExactRate, st.floats(0.001, 0.1), st.integers(1, 9), st.integers(1, 9), st.just(())),
    *[optional] * 6,
)
differences = st.builds(
    Difference,
    *[optional] * 5,
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    finite,
    st.text(max_size=5),
    st.text(max_size=5),
    optional,
    st.none() | quantiles,
    optional,
)


@given(estimates, differences)
def test_any_finite_numbers_come_back_exactly(estimate: Estimate, difference: Difference) -> None:
    cell = Cell("ok", figures={"auc": estimate, "tpr@0.1": estimate}, nulls={"blind": {"auc": difference}})
    attack = replace(
        LOSS,
        cells=dict.fromkeys(RICH.models, cell),
        comparison={"student": Comparison("ok", figures={"auc": difference})},
    )
    result = replace(RICH, attacks={"loss": attack})
    assert from_json(json.loads(json.dumps(to_json(result)))) == result


def test_the_layout_is_the_fixed_one() -> None:
    layout = to_json(RICH)
    assert list(layout) == [
        "schema",
        "kdaudit_version",
        "models",
        "data",
        "attacks",
        "validity",
        "power",
        "mixed_supervision",
        "verdict",
        "config",
        "strongest",
        "measured",
    ]
    assert layout["schema"] == "kdaudit.results/1"
    loss = layout["attacks"]["loss"]
    models = ["teacher", "student", "student-2"]
    drawn = ["curves", "histograms", "two_by_two"]
    assert list(loss) == ["version", "requested", *models, "comparison", *drawn, "settings"]
    assert "settings" not in layout["attacks"]["reference"], "files of attacks as defined are as they were"
    assert loss["student"]["status"] == "ok"
    assert loss["student"]["unscored"] == 3
    assert loss["student"]["tpr_at_fpr"]["0.01"]["value"] == 0.1
    assert loss["comparison"]["student"]["auc"]["p_value_holm"] == 0.4
    assert layout["attacks"]["reference"]["student"] == {
        "status": "not_applicable",
        "reason": "no reference was given",
        "unscored": 0,
    }
    assert layout["verdict"]["gates"][0]["gate"] == "student.auc<=0.6"
    assert layout["verdict"]["gates"][1]["bound"] is None


def test_an_estimate_writes_its_figures_always_and_the_rest_where_there_is_something_to_write() -> None:
    estimate = to_json(RICH)["attacks"]["loss"]["student"]["tpr_at_fpr"]["0.001"]
    assert estimate == {
        "value": None,
        "low": None,
        "high": None,
        "n": 1400,
        "m": 1391,
        "level": 0.95,
        "method": "",
        "reason": "too few non-members for this rate",
    }


def test_equal_results_give_equal_bytes(tmp_path: Path) -> None:
    save(RICH, tmp_path / "one.json")
    save(load(tmp_path / "one.json"), tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_a_numpy_number_is_written_as_a_number() -> None:
    layout = to_json(replace(RICH, config={"members": np.int64(3), "share": np.float32(0.5)}))
    assert json.dumps(layout["config"]) == '{"members": 3, "share": 0.5}'


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_a_number_that_is_none_is_never_written(tmp_path: Path, value: float) -> None:
    save(RICH, tmp_path / "results.json")
    before = (tmp_path / "results.json").read_bytes()
    with pytest.raises(ValueError, match=r"result\.power\.level is -?(nan|inf)"):
        save(replace(RICH, power=Power(0.5, level=value)), tmp_path / "results.json")
    cell = replace(CELL, figures={"auc": replace(AUC, low=value)})
    with pytest.raises(ValueError, match=r"cells\.student\.auc\.low"):
        to_json(replace(RICH, attacks={"loss": replace(LOSS, cells={"student": cell})}))
    assert (tmp_path / "results.json").read_bytes() == before


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    save(RICH, path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match=r"the disk is full: .*results\.json"):
        save(replace(RICH, kdaudit_version="9"), path)
    assert load(path) == RICH
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


def test_an_output_that_cannot_be_written_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "results.json").mkdir()
    (tmp_path / "plain").touch()
    for path in (tmp_path / "results.json", tmp_path / "plain" / "results.json"):
        with pytest.raises(
            OutputError, match=r"results\.json cannot be written: (Is a directory|File exists)"
        ) as error:
            save(RICH, path)
        assert error.value.exit_code is ExitCode.BAD_INPUT
    assert {entry.name for entry in tmp_path.iterdir()} == {"results.json", "plain"}


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        load(path)
    assert error.value.exit_code is ExitCode.BAD_INPUT
    assert error.value.hint
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "Expecting value"),
        (b'{"schema": "kdaudit.res', "Unterminated string"),
        (b"\xff\xfe{}", "can't decode"),
        (b'{"schema": NaN}', "NaN is not a number"),
        (b'{"schema": -Infinity}', "-Infinity is not a number"),
        (b'{"schema": 1e999}', "1e999 is out of range"),
        (b'{"schema": ' + b"9" * 5000 + b"}", "out of range"),
        (b"[" * 100_000, "not a results file"),
        (b"[]", "not an object"),
        (b"{}", "schema is missing"),
        (b'{"schema": "kdaudit.results/2"}', "its schema is 'kdaudit.results/2'"),
        (b'{"schema": "kdaudit.mitigation/1"}', "reads 'kdaudit.results/1'"),
    ],
)
def test_a_file_that_holds_no_result_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    assert words in refusal(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "results.json"
    save(RICH, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "not a results file" in refusal(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "results.json")
    assert "cannot be read" in refusal(tmp_path)


def test_a_file_of_another_size_class_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with path.open("wb") as sparse:
        sparse.truncate(file.MAX_BYTES + 1)
    assert "too large" in refusal(path)


def rate_of(top: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = top["attacks"]["loss"]["student"]["tpr_at_fpr"]["0.01"]
    return found


def edited(edit: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    layout: dict[str, Any] = json.loads(json.dumps(to_json(RICH)))
    edit(layout)
    return layout


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda top: top.pop("verdict"), "verdict is missing"),
        (lambda top: top["attacks"]["loss"].pop("student"), "attacks.loss.student is missing"),
        (lambda top: top["attacks"]["loss"]["student"].pop("status"), "attacks.loss.student.status is missing"),
        (
            lambda top: top["attacks"]["loss"]["student"]["auc"].pop("value"),
            "attacks.loss.student.auc.value is missing",
        ),
        (lambda top: top["verdict"]["gates"][0].pop("limit"), "verdict.gates[0].limit is missing"),
        (
            lambda top: top["attacks"]["loss"]["student"].update(status="fine"),
            "student.status is 'fine', not one of ok",
        ),
        (
            lambda top: top["attacks"]["loss"]["student"]["auc"].update(value="0.5"),
            "auc.value is '0.5', not of type float",
        ),
        (
            lambda top: top["attacks"]["loss"]["student"]["auc"].update(value=True),
            "auc.value is True, not of type float",
        ),
        (lambda top: top["attacks"]["loss"]["student"]["auc"].update(n=1.5), "auc.n is 1.5, not of type int"),
        (lambda top: top["attacks"]["loss"].update(requested=1), "loss.requested is 1, not of type bool"),
        (lambda top: top.update(models=[]), "models is not an object"),
        (lambda top: rate_of(top)["exact"].update(detected=[3, 2]), "counts behind an exact rate fall"),
        (lambda top: rate_of(top)["exact"].update(fpr=1.5), "ranks behind an exact rate are out of range"),
        (lambda top: rate_of(top).update(n=139), "an exact rate of 139 members counts more of them"),
        (lambda top: top["verdict"].update(gates={}), "verdict.gates is {}, not of type list"),
    ],
)
def test_a_missing_key_or_a_wrong_type_is_named(edit: Callable[[dict[str, Any]], object], words: str) -> None:
    with pytest.raises(ConfigError, match=r"^run/results\.json: ") as error:
        from_json(edited(edit), source="run/results.json")
    assert words in str(error.value)


def test_a_file_of_an_earlier_version_without_nulls_is_read() -> None:
    def undo(top: dict[str, Any]) -> None:
        for model in RICH.models:
            cell = top["attacks"]["loss"][model]
            del cell["nulls"], cell["tpr_at_fpr"]["0.01"]["exact"]
            cell["vs_blind"] = {"value": 0.3, "low": 0.2, "high": 0.4, "p_value": None, "p_value_holm": None, "n": 9}

    found = from_json(edited(undo)).attacks["loss"].cells["student"]
    assert found.nulls == {}
    assert found.figures["tpr@0.01"] == replace(TPR, exact=None)


def test_keys_of_a_later_version_are_ignored() -> None:
    def extend(top: dict[str, Any]) -> None:
        top["later"] = {"a": 1}
        top["attacks"]["loss"]["later"] = []
        top["attacks"]["loss"]["student"]["auc"]["later"] = None

    assert from_json(edited(extend)) == RICH
