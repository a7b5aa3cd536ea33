"""What a comparison is asked for: its arms, its students' settings, and what contradicts itself."""

from pathlib import Path
from typing import Any

import pytest

from kdaudit.distill.settings import DistillConfig
from kdaudit.errors import ConfigError
from kdaudit.mitigate.settings import MitigateConfig

OUT = Path("out")


def config(*methods: str, distill: dict[str, Any] | None = None, **changes: Any) -> MitigateConfig:
    plain: dict[str, Any] = {
        "teacher": "t",
        "train": ("f",),
        "out": OUT,
        "student": "s",
        "nonmembers": ("n",),
        "seed": 5,
    }
    settings = DistillConfig(**{**plain, **(distill or {})})
    return MitigateConfig(**{"distill": settings, "out": OUT, "methods": methods or ("lora",), **changes})


def test_every_method_is_an_arm_a_choice_of_members_has_a_control_and_stopping_early_is_the_plain_run() -> None:
    found = config("early-stop", "lora", "non-vulnerable", "bottleneck").arms
    assert [(arm.name, arm.control_of) for arm in found] == [
        ("non-vulnerable", None), ("non-vulnerable-control", "non-vulnerable"), ("bottleneck", None), ("lora", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("epochs", "asked", "further"),
    [
        (10, None, (2, 5, 8)),  # 2.5, 5 and 7.5, a half rounded to the even number
        (3, None, (1, 2)),  # 0.75, 1.5 and 2.25
        (2, None, (1,)),  # 0.5, 1 and 1.5: at least 1, and 2 is the plain run
        (4, (1, 6, 6, 4), (1, 6)),
        (4, (), ()),
    ],
)
def test_further_plain_runs_have_about_a_quarter_a_half_and_three_quarters_of_the_epochs(
    epochs: int, asked: tuple[int, ...] | None, further: tuple[int, ...]
) -> None:
    assert config(distill={"epochs": epochs}, plain_epochs=asked).further == further


def test_every_student_has_a_folder_and_a_seed_of_its_own_and_all_share_the_split_of_the_records() -> None:
    asked = config("lora", "soft-only", seeds=2, frontier_points=6, distill={"overwrite": True, "resume": True})
    assert asked.training_seeds == (5, 6)
    students = {
        "plain/seed-6": asked.plain(6),
        "plain-2/seed-6": asked.further_plain(2, 6),
        **{f"{arm.name}/seed-6": asked.student(arm, 6) for arm in asked.arms},
    }
    for folder, student in students.items():
        assert student.out == OUT / folder
        assert (student.seed, student.records_seed, student.resume, student.overwrite) == (6, 5, None, False)
        assert student.copies_per_epoch == (6 if folder == "plain/seed-6" else 0)
        assert student.epochs == (2 if folder == "plain-2/seed-6" else 3)
        assert student.lora == (8 if folder == "lora/seed-6" else None)
        assert student.weight == (0 if folder == "soft-only/seed-6" else 0.5)


@pytest.mark.parametrize(
    ("methods", "distill", "changes", "said"),
    [
        (("lora",), {}, {"seeds": 0}, "--seeds: 0 is too small, the least is 1"),
        (("lora",), {}, {"frontier_points": 3}, "--frontier-points: 3 is too small, the least is 4"),
        (("lora",), {"epochs": 1}, {}, "--epochs: 1 leaves no frontier"),
        (("lora",), {}, {"plain_epochs": (2, 0)}, "--plain-epochs: 0 is too small"),
        (("lora",), {}, {"vulnerability_attack": "recall"}, "--vulnerability-attack: recall takes non-members out"),
        (("lora",), {"lora": 8}, {}, "--method lora: the plain run does that already"),
        (("soft-only",), {"objective": "hard"}, {}, "--method soft-only: --hard-weight"),
        (("bottleneck",), {"student": None, "student_layers": "0"}, {}, "--method bottleneck: it changes the student"),
        (("no-norm",), {"lora": 4, "student_load": "4bit"}, {}, "--method no-norm: a quantised start"),
        (
            ("non-vulnerable",), {"nonmembers": (), "teacher_saw": "unknown"}, {},
            "--method non-vulnerable: held-out records may be members of the teacher",
        ),
        (("lora",), {}, {"gates": ("student-2.auc <= 0.6",)}, "student-2"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(
    methods: tuple[str, ...], distill: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config(*methods, distill=distill, **changes)
    assert said in str(caught.value)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        config(seeds=0, frontier_points=0, distill={"epochs": 1})
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "--seeds", "--frontier-points", "--epochs",
    ]  # fmt: skip
