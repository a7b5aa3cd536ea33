"""What intervals and gates promise, in one table at the end of `pytest -m slow tests/verdict/test_promises.py`.

A further row is a further entry in CASES.
"""

from collections.abc import Callable, Sequence

import pytest

from tests.metrics.coverage import KINDS
from tests.verdict.promises import (
    ACCURACY,
    ACCURACY_GAP,
    Row,
    Setting,
    area,
    bootstrapped,
    exact_rate,
    largest,
    near_one,
    rate_metric,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

NORMAL = Setting("normal")
HEAVY = Setting("t, 2 degrees", df=2)
EXPOSED = Setting("4 % exposed", shifts=(0.0, 0.0), exposed=(0.02, 0.04))
UNBALANCED = Setting("2000 : 300", n=2000, m=300)
LARGE = Setting("normal, 6000", n=1000, m=6000)
SETTINGS = (NORMAL, HEAVY, EXPOSED, UNBALANCED)
NEAR_ONE = [
    near_one(student, teacher, kind, n, m)
    for kind in KINDS
    for student, teacher, n, m in (
        (0.95, 0.9, 1000, 1000), (0.99, 0.93, 1000, 1000), (0.995, 0.985, 1000, 1000), (0.99, 0.93, 2000, 200)
    )
]  # fmt: skip
LARGEST = {
    "AUC 0.5, correlation 0.5, 400 : 400": (0.5, 0.5, 400),
    "AUC 0.6, correlation 0.9, 400 : 400": (0.6, 0.9, 400),
    "AUC 0.8, correlation 0.5, 1000 : 1000": (0.8, 0.5, 1000),
    "AUC 0.99, correlation 0.7, 400 : 400": (0.99, 0.7, 400),
}
RATES = [rate_metric("0.01"), rate_metric("0.1")]

CASES: dict[str, Callable[[], Sequence[Row]]] = {
    **{
        f"tpr@{key} {setting.name}": lambda setting=setting, key=key: [exact_rate(setting, key, audits=4000)]  # type: ignore[misc]
        for key, settings in {
            "0.001": (LARGE, NORMAL, HEAVY, EXPOSED),
            "0.01": SETTINGS,
            "0.1": SETTINGS,
        }.items()
        for setting in settings
    },
    **{f"auc {setting.name}": lambda setting=setting: area(setting, audits=4000) for setting in SETTINGS},  # type: ignore[misc]
    **{
        f"near one {setting.name}": lambda setting=setting: area(setting, audits=4000)  # type: ignore[misc]
        for setting in NEAR_ONE
    },
    **{
        f"largest {setting}": lambda setting=setting, given=given: [largest(setting, *given, audits=2000)]  # type: ignore[misc]
        for setting, given in LARGEST.items()
    },
    "bootstrap normal": lambda: bootstrapped(
        NORMAL, [ACCURACY, ACCURACY_GAP, *RATES], audits=1000, resamples=500, far_audits=4000
    ),
    "bootstrap t": lambda: bootstrapped(HEAVY, [ACCURACY, ACCURACY_GAP, *RATES], audits=1000, resamples=500),
    "bootstrap exposed": lambda: bootstrapped(EXPOSED, [ACCURACY, ACCURACY_GAP, *RATES], audits=1000, resamples=500),
    "bootstrap unbalanced": lambda: bootstrapped(
        UNBALANCED, [ACCURACY, ACCURACY_GAP, rate_metric("0.1")], audits=1000, resamples=500
    ),
    "bootstrap large": lambda: bootstrapped(LARGE, [rate_metric("0.001")], audits=1000, resamples=500),
}


@pytest.mark.parametrize("case", CASES)
def test_intervals_cover_and_gates_fail_and_pass_falsely_as_seldom_as_they_say(case: str, promises: list[Row]) -> None:
    rows = CASES[case]()
    promises.extend(rows)
    assert {f"{row.metric}, {row.setting}": row.problems for row in rows if row.problems} == {}
