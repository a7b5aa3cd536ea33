"""A model that is no better than a uniform guess is not audited; a reference may be one, and is called so."""

from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from tests import encoders, tiny
from tests.commands import CONTEXT, Given, check_refused, lines, results


def scores(out: Path, attack: str) -> list[float]:
    rows = parquet.read_table(out / "scores.parquet").to_pylist()
    return [row["score"] for row in rows if (row["model"], row["attack"]) == ("student", attack)]


@pytest.mark.parametrize("part", ["teacher", "student"])
def test_a_causal_model_with_random_weights_is_refused(part: str, given: Given, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "random", seed=4, context=CONTEXT)
    done = given.having(**{part: folder}).attack(tmp_path / "run", "--attack", "loss")
    check_refused(
        done, f"the {part} {folder} is not a language model for these texts", "a uniform guess among its 300 tokens",
        "an untrained start is no negative control",
    )  # fmt: skip
    assert not (tmp_path / "run" / "results.json").exists()


def test_a_reference_with_random_weights_is_used_and_called_one_that_knows_nothing(
    given: Given, tmp_path: Path
) -> None:
    folder = tiny.save(tmp_path / "random", seed=4, context=CONTEXT)
    done = given.attack(tmp_path / "run", "--attack", "loss", "--attack", "reference", "--student-reference", folder)
    assert done.code == 0, done.err
    warnings = [one for one in results(tmp_path / "run")["validity"]["warnings"] if "knows nothing" in one]
    assert len(warnings) == 1
    assert str(folder) in warnings[0]
    assert "hardly more than the loss attack" in warnings[0]
    assert "knows nothing of these texts" in " ".join(done.out.split())
    assert np.corrcoef(scores(tmp_path / "run", "loss"), scores(tmp_path / "run", "reference"))[0, 1] > 0.9


def test_a_reference_that_is_a_language_model_is_not_warned_about(finished: Path) -> None:
    assert not [one for one in results(finished)["validity"]["warnings"] if "knows nothing" in one]


def test_a_masked_reference_with_random_weights_is_called_so_too(given: Given, tmp_path: Path) -> None:
    split = encoders.word_pieces()
    teacher, student = (encoders.save(tmp_path / name, seed=seed) for seed, name in ((1, "teacher"), (2, "student")))
    encoders.model("bert", n_words=len(split)).save_pretrained(tmp_path / "random")
    split.save_pretrained(tmp_path / "random")
    models = given.having(teacher=teacher, student=student)
    done = models.attack(
        tmp_path / "run", "--attack", "reference", "--student-reference", tmp_path / "random", "--mask-groups", 2
    )
    assert done.code == 0, done.err
    assert [one for one in results(tmp_path / "run")["validity"]["warnings"] if "knows nothing" in one]


def test_what_checkpoints_of_tests_learn_from_holds_no_record(given: Given) -> None:
    records = given.members.read_text(encoding="utf-8") + given.nonmembers.read_text(encoding="utf-8")
    assert not [line for line in lines() if f'"{line}"' in records]
