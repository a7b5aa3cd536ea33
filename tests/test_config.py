"""The configuration of a command: every problem at once, and what makes two runs the same."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdaudit.config import AuditConfig, student_names
from kdaudit.config_file import find_config_file, read_config_file
from kdaudit.errors import ConfigError
from kdaudit.options import Declared, options_of

PLAIN = AuditConfig(teacher="t", students=("s",))
KNOWN = options_of(AuditConfig)


def test_every_problem_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        AuditConfig(
            teacher="t", students=(), members=("m",), student_references=("a", "b"), seed=-1, max_tokens=1, limit=0,
            batch_tokens=0, n_shots=0, calibration_share=1.0, device="tpu", dtype="int4", teacher_load="2bit",
        )  # fmt: skip
    lines = str(caught.value).splitlines()
    assert len(lines) == 12
    for option in ("--student:", "--members is given but --nonmembers is not", "--student-reference: 2", "--seed: -1",
                   "--max-tokens: 1", "--limit: 0", "--batch-tokens: 0", "--n-shots: 0", "--calibration-share: 1",
                   "--device: 'tpu'", "--dtype: 'int4'", "--teacher-load: '2bit'"):  # fmt: skip
        assert sum(option in line for line in lines) == 1, option


@pytest.mark.parametrize("name", ["teacher", "members", "shots", "teacher_reference", "text_field"])
def test_an_empty_setting_is_refused_by_its_option(name: str) -> None:
    settings: dict[str, Any] = {"teacher": "t", "members": ("m",), "nonmembers": ("n",), name: " "}
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')}: an empty value"):
        AuditConfig(students=("s",), **settings)


def test_the_text_is_no_id() -> None:
    with pytest.raises(ConfigError, match="--id-field: 'body' is the field of the text"):
        AuditConfig(teacher="t", students=("s",), text_field="body", id_field="body")


@pytest.mark.parametrize(
    "sound",
    [
        {"seed": 0},
        {"device": "cuda:1"},
        {"calibration_share": 0.05},
        {"calibration_share": 0.95},
        {"members": ("m",), "nonmembers": ("n",)},
        {"max_tokens": 2, "limit": 1},
        {"student_load": "4bit"},
    ],
)
def test_values_at_the_edge_are_accepted(sound: dict[str, Any]) -> None:
    replace(PLAIN, **sound)


def references(config: AuditConfig) -> dict[str, str | None]:
    """The reference of every audited model."""
    return {one.name: one.reference for one in config.audited}


def test_one_reference_serves_every_student_and_none_is_none() -> None:
    three = replace(PLAIN, students=("a", "b", "c"), teacher_reference="t0")
    assert references(three) == {"teacher": "t0", "student": None, "student-2": None, "student-3": None}
    assert set(references(replace(three, student_references=("r",))).values()) == {"t0", "r"}
    each = references(replace(three, student_references=("x", "y", "z")))
    assert [each[name] for name in student_names(3)] == ["x", "y", "z"]


def test_a_reference_for_all_serves_where_a_model_has_none_of_its_own() -> None:
    two = replace(PLAIN, students=("a", "b"), reference="r")
    assert references(two) == {"teacher": "r", "student": "r", "student-2": "r"}
    assert references(replace(two, teacher_reference="t0")) == {"teacher": "t0", "student": "r", "student-2": "r"}
    own = replace(two, student_references=("x", None))
    assert references(own) == {"teacher": "r", "student": "x", "student-2": None}


def test_one_base_serves_every_student_or_each_has_its_own() -> None:
    two = replace(PLAIN, students=("a", "b"), teacher_base="t")
    assert {one.name: one.base for one in two.audited} == {"teacher": "t", "student": None, "student-2": None}
    assert [one.base for one in replace(two, student_bases=("x",)).audited] == ["t", "x", "x"]
    assert [one.base for one in replace(two, student_bases=("x", "y")).audited] == ["t", "x", "y"]
    with pytest.raises(ConfigError, match="--student-base: 3 given, but 2 of --student"):
        replace(two, student_bases=("x", "y", "z"))


CHANGES: dict[str, Any] = {
    "text_field": "body", "id_field": "number", "attacks": ("loss",), "seed": 1, "max_tokens": 8, "limit": 8,
    "batch_tokens": 8, "device": "cpu", "dtype": "float32", "n_shots": 3, "calibration_share": 0.5,
    "teacher_load": "4bit", "student_load": "4bit", "trust_remote_code": True, "allow_pickle": True,
    "paper_compat": True, "kind": "masked", "mask_plan": "pll", "mask_groups": 5, "answer_field": "chosen",
    "pairs": "text", "txt_record": "file", "skip_empty": True, "chat_template": "teacher",
    "score": "all", "device_map": "auto", "attention": "eager",
    "settings": ("min-k.fraction=0.1",),
}  # fmt: skip
FREE: dict[str, Any] = {
    "teacher": "T", "students": ("S",), "members": ("m",), "nonmembers": ("n",), "shots": ("x",),
    "teacher_reference": "r",
    "student_references": ("r",), "reference": "r", "out": Path("elsewhere"), "gates": ("student.auc <= 0.6",),
    "overwrite": True, "manifest": Path("k.json"), "teacher_base": "B", "student_bases": ("B",),
    "signals": "reduced",
}  # fmt: skip
OF_A_MANIFEST: dict[str, Any] = {"train": ("t",), "key_file": Path("key")}
OF_A_MODEL_ALONE = {"model", "model_reference", "model_load", "model_base"}
OF_A_RUN = {"teacher_run"}
OF_A_MAP = {"max_memory"}
TOGETHER: tuple[dict[str, Any], ...] = (
    {"data": ("d",), "member_field": "label"},
    {"data": ("d",), "member_text_field": "a", "nonmember_text_field": "b"},
    {"members": ("m",), "nonmembers": ("n",), "member_text_field": "a"},
)
"""Records that are told apart by their fields."""


def test_every_field_either_changes_the_measurement_or_counts_by_its_content() -> None:
    together = {name for apart in TOGETHER for name in apart}
    named = CHANGES.keys() | FREE.keys() | OF_A_MANIFEST.keys() | OF_A_MODEL_ALONE | OF_A_RUN | OF_A_MAP | together
    assert {field.name for field in fields(AuditConfig)} == named


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_the_measurement_changes_the_identity(name: str) -> None:
    changed = replace(PLAIN, **{name: CHANGES[name]}).identity()
    assert {key for key in changed if changed[key] != PLAIN.identity()[key]} == {name}


def test_a_run_may_go_on_with_more_memory() -> None:
    mapped = replace(PLAIN, device_map="auto")
    assert replace(mapped, max_memory="24GiB,cpu=8GiB").identity() == mapped.identity()


def test_what_a_model_alone_is_given_changes_the_identity_by_its_precision_alone() -> None:
    lone = AuditConfig(model="m")
    assert replace(lone, model="M", model_reference="r", reference="R", model_base="B").identity() == lone.identity()
    changed = replace(lone, model_load="4bit").identity()
    assert {key for key in changed if changed[key] != lone.identity()[key]} == {"model_load"}


def test_a_teacher_counts_by_its_content_whether_it_was_asked_or_taken_from_a_run() -> None:
    taken = replace(PLAIN, teacher=None, teacher_run=Path("run"))
    assert taken.identity() == PLAIN.identity()
    assert [one.name for one in taken.audited] == [one.name for one in PLAIN.audited]


def test_names_gates_and_folders_do_not_change_the_identity() -> None:
    assert replace(PLAIN, **FREE).identity() == PLAIN.identity()
    assert replace(PLAIN, **OF_A_MANIFEST).identity() == PLAIN.identity()
    for apart in TOGETHER:
        assert replace(PLAIN, **apart).identity() == PLAIN.identity()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"data": ("d",), "members": ("m",), "nonmembers": ("n",)}, "--data: it holds members and non-members"),
        ({"member_field": "label"}, "--member-field: it is a field of --data"),
        ({"data": ("d",), "member_field": "label", "member_text_field": "a"}, "either a field says who is a member"),
        ({"data": ("d",), "member_text_field": "a"}, "--member-text-field: give both, or --member-field"),
        ({"member_text_field": "a"}, "it needs --members and --nonmembers, or --data"),
        ({"data": ("d",), "member_field": "id"}, "--member-field: 'id' is the field of the id"),
        ({"members": ("-",), "nonmembers": ("-",)}, "--members and --nonmembers: standard input can be read once"),
        ({"members": ("m", "-"), "nonmembers": ("-",)}, "standard input can be read once"),
    ],
)
def test_what_cannot_be_meant_about_records_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(PLAIN, **given)


@pytest.mark.parametrize("name", OF_A_MANIFEST)
def test_what_serves_a_manifest_is_refused_beside_records_given_by_hand(name: str) -> None:
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')}: it belongs to a student's manifest"):
        AuditConfig(teacher="t", students=("s",), members=("m",), nonmembers=("n",), **{name: OF_A_MANIFEST[name]})


def test_a_training_file_that_moved_may_come_with_nonmembers_that_moved() -> None:
    AuditConfig(teacher="t", students=("s",), train=("t.jsonl",), nonmembers=("n.jsonl",))


def test_kdaudit_toml_comes_before_pyproject(tmp_path: Path) -> None:
    assert find_config_file(tmp_path) is None
    project = tmp_path / "pyproject.toml"
    project.write_text("[project]\nname = 'x'\n", encoding="utf-8")
    assert find_config_file(tmp_path) is None
    project.write_text("[tool.kdaudit]\nseed = 1\n", encoding="utf-8")
    assert find_config_file(tmp_path) == project
    own = tmp_path / "kdaudit.toml"
    own.write_text("seed = 2\n", encoding="utf-8")
    assert find_config_file(tmp_path) == own


@given(st.sampled_from(KNOWN))
def test_dashes_and_underscores_are_one_key(tmp_path_factory: pytest.TempPathFactory, declared: Declared) -> None:
    name = declared.name
    written, value = {int: ("3", 3), float: ("0.5", 0.5), bool: ("true", True), list: ('["a", "b"]', ["a", "b"])}.get(
        declared.kind, ('"x"', "x")
    )
    path = tmp_path_factory.mktemp("config") / "kdaudit.toml"
    path.write_text(f"{name.replace('_', '-')} = {written}\n", encoding="utf-8")
    if declared.option.in_file:
        assert read_config_file(path, known=KNOWN) == {name: value}
    else:
        with pytest.raises(ConfigError, match="unknown key"):
            read_config_file(path, known=KNOWN)


def test_a_whole_number_is_a_number_and_a_byte_order_mark_is_no_key(tmp_path: Path) -> None:
    path = tmp_path / "kdaudit.toml"
    path.write_bytes(b"\xef\xbb\xbfcalibration_share = 1\n")
    assert read_config_file(path, known=KNOWN) == {"calibration_share": 1}
