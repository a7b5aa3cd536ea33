"""The evidence annex: figures beside clauses, what was not done, and no word of compliance."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest

from kdaudit.attacks import ATTACKS
from kdaudit.config import POLICIES, RELEASES, ReportConfig
from kdaudit.errors import ConfigError
from kdaudit.report import annex
from kdaudit.report.annex import READS, annexes
from kdaudit.report.blocks import Section, Table
from kdaudit.report.reading import Report, Run
from kdaudit.report.render import render_html, render_markdown
from tests.attacks.test_golden_vector import SAMPLE
from tests.commands import check_refused, kdaudit
from tests.report.reports import LEAKY, hostile, read, write_run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    (found,) = read(write_run(Path("leaky"), LEAKY)).runs
    return found


def tables(sections: list[Section]) -> dict[str, Table]:
    return {
        f"{section.key}: {one.title}": one for section in sections for one in section.blocks if isinstance(one, Table)
    }


def test_every_policy_and_release_of_the_options_has_an_annex() -> None:
    assert {*POLICIES} == {*annex.POLICIES}
    assert {*RELEASES} == {*annex.RELEASES}


def test_without_a_policy_there_is_no_annex(run: Run) -> None:
    assert annexes(run, (), "text-api") == []
    assert "Annex" not in render_markdown(Report((run,)))


def test_the_clause_on_membership_inference_holds_the_strongest_attack_on_every_model(run: Run) -> None:
    found = tables(annexes(run, ("aisvs", "edpb"), ""))
    for key, clause in (("annex-aisvs: Clauses", "11.2.5"), ("annex-edpb: Clauses", "paragraph 55 (i)")):
        told = next(row[1] for row in found[key].rows if row[0].startswith(f"{clause}: "))
        assert "teacher: reference, AUC 0.880 [0.857, 0.903] (simultaneous 95 % interval)" in told
        assert "student: reference, AUC 0.930 [0.906, 0.954] (simultaneous 95 % interval)" in told
        assert "balanced accuracy 0.830 [0.810, 0.850]" in told
        assert "verdict on 3 limits: fail" in told


def test_what_was_not_done_is_said(run: Run) -> None:
    (clauses, fields, attackers, _) = tables(annexes(run, ("edpb",), "")).values()
    not_done = [row for row in clauses.rows if row[1] == "–"]
    assert [row[0].partition(":")[0] for row in not_done] == [
        "paragraph 55 (i)", "paragraph 55 (ii)", "paragraph 55 (iii)", "paragraph 55 (iv)", "paragraph 55 (v)",
    ]  # fmt: skip
    assert {row[2] for row in not_done} == {annex.NOT_DONE}
    assert ("operator", annex.NOT_RECORDED) in fields.rows
    assert ("release", annex.NOT_DECLARED) in fields.rows
    assert {row[0]: row[3] for row in attackers.rows}["ez"].endswith("no reference model was given")
    assert "not asked for: zlib, min-k, min-k++" in attackers.note
    assert "attribute inference, model inversion and reconstruction are not done" in attackers.note


@pytest.mark.parametrize("release", RELEASES)
def test_the_release_is_said_as_it_is_declared(release: str, run: Run) -> None:
    found = tables(annexes(run, ("edpb",), release))
    assert found["annex-edpb: Clauses"].rows[0][1] == annex.RELEASES[release]
    assert ("release", annex.RELEASES[release]) in found["annex: Fields"].rows


def test_it_never_says_that_anything_complies(run: Run) -> None:
    text = render_markdown(Report((run,), policies=POLICIES, release="open-weights"))
    told = text[text.index("Annex: ") : text.index("What this does not show")]
    assert not re.search(r"complian|complies|certif|conform", told, re.IGNORECASE)
    assert told.count("It does not say that a model is anonymous") == 2


def test_the_annex_stands_in_both_documents_with_links_that_lead_there(run: Run) -> None:
    page = render_html(Report((run,), policies=POLICIES))
    assert 'id="run-1-annex-edpb"' in page
    assert 'href="#run-1-annex-edpb"' in page
    assert "11.2.5" in page
    both = render_html(Report((run, dataclasses.replace(run, name="other")), policies=("edpb",)))
    assert {f'id="run-{n}-annex-edpb"' in both for n in (1, 2)} == {True}


def test_a_hostile_name_stays_text() -> None:
    text = "<script>alert(1)</script>"
    page = render_html(Report((Run(text, Path("x"), hostile(text), versions={text: text}),), policies=POLICIES))
    assert "<script" not in page


def test_what_each_attack_reads_is_what_moves_its_score() -> None:
    """An attack whose score a signal moves reads that signal; the table says so of it, and of no other."""
    distribution, top = READS.values()
    for name, attack in ATTACKS.items():
        assert math.isfinite(attack.score(SAMPLE)), name
        assert (moves(name, "logprob_mean") or moves(name, "logprob_std")) == (name in distribution), name
        assert moves(name, "logprob_top") == (name in top), name


def moves(name: str, signal: str) -> bool:
    target = {
        view: dataclasses.replace(one, **{signal: getattr(one, signal) * np.float32(0.5)})
        for view, one in SAMPLE.target.items()
    }
    return ATTACKS[name].score(dataclasses.replace(SAMPLE, target=target)) != ATTACKS[name].score(SAMPLE)


def test_a_release_without_a_policy_is_refused(run: Run) -> None:
    with pytest.raises(ConfigError, match="--release is given but --policy is not"):
        ReportConfig(runs=(run.path,), release="text-api")
    ReportConfig(runs=(run.path,), release="text-api", from_file=frozenset({"release"}))
    with pytest.raises(ConfigError, match="--policy: 'gdpr' is none of edpb, aisvs"):
        ReportConfig(runs=(run.path,), policies=("gdpr",))


def test_the_hashes_in_the_annex_are_those_that_verify_prints(finished: Path, tmp_path: Path) -> None:
    done = kdaudit("report", finished, "--policy", "edpb,aisvs", "--format", "md", "--out", tmp_path)
    assert done.code == 0, done.err
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    verified = kdaudit("report", "--verify", finished)
    assert verified.code == 0, verified.err
    (seal,) = re.findall(r"SHA-256 of the manifest: ([0-9a-f]{64})", verified.out)
    assert f"| manifest.json | {seal} |" in text
    check_refused(kdaudit("report", finished, "--release", "text-api"), "--policy is not")
