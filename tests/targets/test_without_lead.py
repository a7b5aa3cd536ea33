"""A text that begins with the model's BOS gets it once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from kdaudit.distill.data import make_examples
from kdaudit.records import Record
from kdaudit.targets.causal import causal_frame
from kdaudit.targets.passage import lead_text
from kdaudit.targets.script import Script, script_of
from tests import tiny
from tests.commands import Given, check_refused, read_texts, results


@pytest.mark.parametrize(
    ("text", "n_prompt", "expected"),
    [
        ("<s>The knee", 0, ("The knee", 0)),
        ("<s><s>The knee", 8, ("The knee", 2)),
        ("The <s>knee", 2, ("The <s>knee", 2)),
        ("<s>", 2, ("", 0)),
        ("<t><s>The knee", 0, ("The knee", 0)),
    ],
)
def test_what_stands_before_every_text_is_taken_off(text: str, n_prompt: int, expected: tuple[str, int]) -> None:
    assert script_of(Record("1", text, 1, n_prompt), ["<s>", "", "<t>"]) == Script(*expected)


def test_a_tokenizer_that_puts_nothing_before_a_text_takes_nothing_off() -> None:
    assert lead_text(tiny.tokenizer(bos=True)) == "<s>"
    assert lead_text(tiny.tokenizer()) == ""
    assert script_of(Record("1", "<s>The knee", 1, 3), [lead_text(tiny.tokenizer())]) == Script("<s>The knee", 3)


@pytest.mark.parametrize("bos", [False, True])
def test_the_student_learns_a_text_with_one_bos(bos: bool) -> None:
    split = tiny.tokenizer(bos=bos)
    plain, doubled = (
        make_examples([Record("1", f"{front}The knee", 1, 0)], split, causal_frame(split), window=64).items[0]
        for front in ("", "<s>")
    )
    assert np.array_equal(plain.ids, doubled.ids) == bos
    assert doubled.ids.tolist().count(0) == plain.ids.tolist().count(0) + (0 if bos else 1)


def test_scores_are_those_of_the_texts_without_it(
    given: Given, checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    models = given.having(teacher=checkpoint(seed=1, bos=True), student=checkpoint(seed=2, bos=True))
    doubled = given.having(
        teacher=models.teacher,
        student=models.student,
        **{
            name: tiny.write_jsonl(
                tmp_path / f"{name}.jsonl",
                [f"<s>{text}" for text in read_texts(getattr(given, name)).values()],
                prefix=name[0],
            )
            for name in ("members", "nonmembers")
        },
    )
    runs = []
    for name, one in (("plain", models), ("doubled", doubled)):
        done = one.attack(tmp_path / name, "--attack", "loss")
        assert done.code == 0, done.err
        runs.append(pq.read_table(tmp_path / name / "scores.parquet")["score"].to_numpy())
    np.testing.assert_allclose(runs[0], runs[1], atol=1e-6)
    assert any("48 texts begin with <s>" in one for one in results(tmp_path / "doubled")["validity"]["warnings"])


def test_a_text_that_is_in_both_sets_but_for_its_bos_is_refused(
    given: Given, checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    texts = [*read_texts(given.nonmembers).values()]
    members = [f"<s>{texts[0]}", *read_texts(given.members).values()]
    models = given.having(teacher=checkpoint(seed=1, bos=True), student=checkpoint(seed=2, bos=True))
    shared = models.having(members=tiny.write_jsonl(tmp_path / "members.jsonl", members, prefix="m"))
    done = shared.attack(tmp_path / "run", "--attack", "loss")
    check_refused(done, "1 texts stand in both sets, in one of them behind <s>")
