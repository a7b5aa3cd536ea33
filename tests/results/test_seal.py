"""The seal of a run: a changed byte is found, and the file that holds it named."""

import json
import shutil
from pathlib import Path

import pytest

from kdaudit.errors import ConfigError
from kdaudit.results.seal import FILES, OWN, check_seal, file_sha256, sealed
from tests.commands import Done, check_refused, kdaudit

FILES_OF_A_RUN = ("results.json", "scores.parquet", "likelihoods.parquet")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("signals")))


def verify(run: Path) -> Done:
    return kdaudit("report", "--verify", run)


def test_a_finished_run_is_sealed_and_is_as_it_was_written(run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert manifest[FILES] == {name: file_sha256(run / name) for name in FILES_OF_A_RUN}
    done = verify(run)
    assert (done.code, done.err) == (0, "")
    assert f"SHA-256 of the manifest: {manifest[OWN]}" in done.out
    assert "unchanged: manifest.json, results.json, scores.parquet, likelihoods.parquet" in done.out
    assert verify(run / "results.json").code == 0


@pytest.mark.parametrize("name", [*FILES_OF_A_RUN, "manifest.json"])
def test_a_changed_file_is_named(name: str, run: Path) -> None:
    path = run / name
    if name == "manifest.json":
        path.write_text(path.read_text(encoding="utf-8").replace('"complete"', '"completed"', 1), encoding="utf-8")
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    done = verify(run)
    check_refused(done, f"{path}: it was changed after the audit wrote it")
    assert done.err.count("it was changed") == 1


def test_a_hash_that_is_written_anew_shows_in_the_hash_of_the_manifest(run: Path) -> None:
    before = check_seal(run).manifest
    (run / "results.json").write_text("{}", encoding="utf-8")
    content = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    kept = {name: value for name, value in content.items() if name not in {OWN, FILES}}
    (run / "manifest.json").write_text(json.dumps(sealed(kept, run)), encoding="utf-8")
    assert check_seal(run).manifest != before, "this is why a report shows that hash"


def test_the_layout_of_the_manifest_says_nothing(run: Path) -> None:
    before = check_seal(run)
    content = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    (run / "manifest.json").write_text(json.dumps(dict(reversed(content.items())), indent=7), encoding="utf-8")
    assert check_seal(run) == before


def test_scores_that_lie_elsewhere_are_named_and_results_are_needed(run: Path) -> None:
    (run / "scores.parquet").unlink()
    done = verify(run)
    assert done.code == 0
    assert "not here, so not checked: scores.parquet" in done.out
    (run / "results.json").unlink()
    check_refused(verify(run), f"{run / 'results.json'}: it is missing")


@pytest.mark.parametrize("content", ["{}", "[]", '{"sha256": "00", "files_sha256": {}}', '{"files_sha256": 3}'])
def test_a_run_without_hashes_says_how_to_get_them(content: str, run: Path) -> None:
    (run / "manifest.json").write_text(content, encoding="utf-8")
    check_refused(verify(run), "it holds no hashes", "continues the run")


@pytest.mark.parametrize("content", ["{", "", "\x00"])
def test_a_broken_or_absent_manifest_is_one_clear_error(content: str, run: Path) -> None:
    (run / "manifest.json").write_text(content, encoding="utf-8")
    check_refused(verify(run), "manifest.json: cannot be read")
    (run / "manifest.json").unlink()
    check_refused(verify(run), "manifest.json: cannot be read")


def test_verify_refuses_what_is_about_reports(run: Path) -> None:
    check_refused(kdaudit("report", "--verify", run, "--format", "html"), "--verify: it writes no report")


def test_an_unfinished_run_is_not_sealed(tmp_path: Path) -> None:
    assert sealed({"status": "complete"}, tmp_path)[FILES] == {}
    with pytest.raises(ConfigError):
        check_seal(tmp_path)
