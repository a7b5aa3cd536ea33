"""Whole audits and distillations on records that lie in several files, in one for both sets, or in a pipe."""

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Given, check_refused, kdaudit, results
from tests.distill.students import Recipe, manifest_of

LOSS = ("--attack", "loss", "--quiet")


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines(keepends=True)


@pytest.fixture(scope="module")
def expected(given: Given, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the audit of the two plain files gives."""
    out = tmp_path_factory.mktemp("plain") / "run"
    assert given.attack(out, *LOSS).code == 0
    return measured(out)


def measured(out: Path) -> dict[str, Any]:
    """Everything that depends on which records were scored, and in which order."""
    found = results(out)
    return {"attacks": found["attacks"], "sha256": found["data"]["sha256"], "counts": found["data"]["members"]}


def test_a_set_in_several_files_is_audited_as_one(given: Given, expected: dict[str, Any], tmp_path: Path) -> None:
    lines = lines_of(given.members)
    (tmp_path / "a.jsonl").write_text("".join(lines[:10]), encoding="utf-8")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress("".join(lines[10:]).encode()))
    out = tmp_path / "run"
    done = given.having(members=tmp_path / "a.jsonl").attack(out, *LOSS, "--members", tmp_path / "b.jsonl.gz")
    assert done.code == 0, done.err
    assert measured(out) == expected
    assert results(out)["data"]["sources"][0]["source"] == f"{tmp_path / 'a.jsonl'} + {tmp_path / 'b.jsonl.gz'}"


def test_one_file_for_both_sets_is_audited_as_two_files_are(
    given: Given, expected: dict[str, Any], tmp_path: Path
) -> None:
    sides = {path: [json.loads(line) for line in lines_of(path)] for path in (given.members, given.nonmembers)}
    rows = [{**row, "label": int(path == given.members)} for path, found in sides.items() for row in found]
    (tmp_path / "both.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    out = tmp_path / "run"
    command = ("--teacher", given.teacher, "--student", given.student, "--out", out, *LOSS)
    done = kdaudit("attack", *command, "--data", tmp_path / "both.jsonl", "--member-field", "label")
    assert done.code == 0, done.err
    assert measured(out) == expected
    options = [source["option"] for source in results(out)["data"]["sources"]]
    assert options == ["--data (members)", "--data (non-members)"]
    check_refused(kdaudit("attack", *command, "--data", tmp_path / "both.jsonl"), "nothing says who is a member")


def test_members_may_come_from_a_pipe(
    given: Given, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.members.read_bytes())))
    done = given.having(members=Path("-")).attack(tmp_path / "run", *LOSS)
    assert done.code == 0, done.err
    assert measured(tmp_path / "run") == expected


def test_a_field_for_each_file_is_read(given: Given, expected: dict[str, Any], tmp_path: Path) -> None:
    rows = [json.loads(line) for line in lines_of(given.nonmembers)]
    other = tmp_path / "n.jsonl"
    other.write_text("".join(json.dumps({"id": row["id"], "body": row["text"]}) + "\n" for row in rows), "utf-8")
    done = given.having(nonmembers=other).attack(tmp_path / "run", *LOSS, "--nonmember-text-field", "body")
    assert done.code == 0, done.err
    assert measured(tmp_path / "run") == expected


def test_what_was_found_out_about_the_records_stands_in_the_results(given: Given, tmp_path: Path) -> None:
    bare = tmp_path / "members"
    bare.write_text("".join([*lines_of(given.members), '{"text": " "}\n']), encoding="utf-8")
    done = given.having(members=bare).attack(tmp_path / "run", *LOSS, "--skip-empty")
    assert done.code == 0, done.err
    said = results(tmp_path / "run")["validity"]["warnings"]
    assert f"--members {bare}: read as JSON, by how it begins" in said
    assert f"--members {bare}: 1 empty text is left out (--skip-empty)" in said


def test_a_student_of_several_files_is_audited_through_its_manifest(recipe: Recipe, tmp_path: Path) -> None:
    lines = lines_of(recipe.train)
    folder = tmp_path / "shards"
    folder.mkdir()
    for number, part in enumerate((lines[:30], ['{"text": ""}\n', *lines[30:50]])):
        (folder / f"part-{number}.jsonl").write_text("".join(part), encoding="utf-8")
    (tmp_path / "last.jsonl").write_text("".join(lines[50:]), encoding="utf-8")
    out = tmp_path / "student"
    several = Recipe(recipe.teacher, recipe.start, folder)
    done = several.distill(out, "--train", tmp_path / "last.jsonl", "--skip-empty")
    assert done.code == 0, done.err
    made = manifest_of(out)
    assert made["data"]["train"]["source"] == [str(folder), str(tmp_path / "last.jsonl")]
    assert made["data"]["train"]["records"] == 60
    assert made["data"]["key_file"] == str(tmp_path / "shards.kdaudit-key")
    whole = recipe.distill(tmp_path / "whole")
    assert whole.code == 0, whole.err
    assert manifest_of(tmp_path / "whole")["data"]["train"]["sha256"] == made["data"]["train"]["sha256"]
    audited = several.attack(out, tmp_path / "run")
    assert audited.code == 0, audited.err
    assert results(tmp_path / "run")["data"]["members"] == 48
    (folder / "part-0.jsonl").unlink()
    check_refused(several.attack(out, tmp_path / "again"), "is another file, or has changed since")


def test_a_student_of_a_pipe_needs_a_place_for_its_key_and_the_records_again(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = recipe.train.read_bytes()
    piped = Recipe(recipe.teacher, recipe.start, Path("-"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    check_refused(piped.distill(tmp_path / "none"), "there is no folder beside standard input", "--key-file FILE")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    done = piped.distill(tmp_path / "student", "--key-file", tmp_path / "key")
    assert done.code == 0, done.err
    check_refused(piped.attack(tmp_path / "student", tmp_path / "run"), "distilled on records from standard input")
    audited = piped.attack(
        tmp_path / "student", tmp_path / "run", "--train", recipe.train, "--key-file", tmp_path / "key"
    )
    assert audited.code == 0, audited.err
