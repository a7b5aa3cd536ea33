"""Input that cannot be used: one clear message, the right exit code, and what lies in the run folder stays."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from tests import tiny
from tests.commands import FINISHED, Given, check_refused, files_in, halves, kdaudit, results, texts

GOOD = [json.dumps({"text": text}) for text in texts(20, seed=3)]


def replaced(line: str, *, at: int = 17) -> bytes:
    """Twenty good lines, one of them exchanged."""
    return "\n".join([*GOOD[: at - 1], line, *GOOD[at:]]).encode()


BAD_FILES = {
    "empty": (b"", ["is empty"]),
    "broken line 17": (replaced('{"text": "Zorblax'), ["line 17"]),
    "wrong field": (b'{"body": "Zorblax"}', ["line 1", "'text'", "body"]),
    "number as a text": (replaced('{"text": 5}'), ["line 17", "not a string"]),
    "empty text": (replaced('{"text": ""}'), ["line 17", "empty"]),
    "white space": (replaced('{"text": " \\t"}'), ["line 17", "whitespace"]),
    "invalid utf-8": (replaced("@").replace(b"@", b'{"text": "Zorblax \xff"}'), ["line 17", "UTF-8"]),
    "a NUL byte": (replaced("@").replace(b"@", b'{"text": "Zorblax \0"}'), ["line 17"]),
    "blank lines only": (b"\n\n\n", ["no record"]),
    "no object": (replaced('["Zorblax"]'), ["line 17"]),
}


@pytest.mark.parametrize(("content", "words"), BAD_FILES.values(), ids=BAD_FILES)
def test_an_unusable_file_is_refused_with_its_line(
    content: bytes, words: list[str], given: Given, finished: Path, tmp_path: Path
) -> None:
    file, before = tmp_path / "texts.jsonl", files_in(finished)
    file.write_bytes(content)
    for option in ("members", "nonmembers"):
        done = given.having(**{option: file}).attack(finished, *FINISHED, "--reference", given.start)
        check_refused(done, f"--{option}", str(file), *words)
    assert files_in(finished) == before


def test_a_missing_file_a_folder_and_an_unknown_kind_are_refused(given: Given, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.docx").write_text("Zorblax", encoding="utf-8")
    for path, words in (
        (tmp_path / "none.jsonl", "no such file"),
        (tmp_path, "is a folder"),
        ("texts.docx", "'.docx'"),
    ):
        done = given.having(members=tmp_path / path).attack(finished, *FINISHED)
        check_refused(done, "--members", words)


def test_members_that_are_the_nonmembers_are_refused(given: Given, finished: Path) -> None:
    done = given.having(nonmembers=given.members).attack(finished, *FINISHED)
    check_refused(done, "24 texts stand in both", "lines 1 and 1")


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(given: Given, finished: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    copies = {}
    for name in ("members", "nonmembers"):
        copies[name] = tmp_path / f"{name}.jsonl"
        copies[name].write_bytes(b"\xef\xbb\xbf" + getattr(given, name).read_bytes().replace(b"\n", b"\r\n"))
    before = results(out)["attacks"]
    done = given.having(**copies).attack(out, *FINISHED, "--reference", given.start)
    assert done.code == 0, done.err  # the same texts: the run is continued
    assert results(out)["attacks"] == before


def test_duplicates_are_kept_once_counted_and_shown(given: Given, tmp_path: Path) -> None:
    members = tiny.write_jsonl(tmp_path / "m.jsonl", texts(6, seed=4) + texts(2, seed=4), prefix="m")
    done = given.having(members=members).attack(tmp_path / "run", "--attack", "loss")
    assert done.code == 0, done.err
    found = results(tmp_path / "run")
    assert (found["data"]["members"], found["validity"]["duplicates"]) == (6, {"members": 2, "nonmembers": 0})
    assert "duplicate texts were kept once: 2 in --members left out" in done.out


def test_five_records_of_each_class_are_measured_and_never_pass(given: Given, tmp_path: Path) -> None:
    members, nonmembers = halves(tmp_path, 5)
    few = given.having(members=members, nonmembers=nonmembers)
    done = few.attack(tmp_path / "run", "--reference", given.start, "--attack", "all", "--gate", "student.auc <= 0.99")
    assert done.code == 3, done.err
    found = results(tmp_path / "run")
    assert found["attacks"]["loss"]["student"]["auc"]["value"] is not None
    assert found["verdict"]["status"] == "inconclusive"
    assert "200 of each needed" in found["verdict"]["gates"][0]["reason"]
    assert few.attack(tmp_path / "free", "--attack", "loss").code == 0


def test_texts_of_one_token_are_counted_as_unscored_and_shown(given: Given, tmp_path: Path) -> None:
    members = tiny.write_jsonl(tmp_path / "m.jsonl", [*texts(10), "a", "b"], prefix="m")
    nonmembers = tiny.write_jsonl(tmp_path / "n.jsonl", [*texts(10, seed=4), "c"], prefix="n")
    done = given.having(members=members, nonmembers=nonmembers).attack(
        tmp_path / "run", "--attack", "loss", "--attack", "zlib"
    )
    assert done.code == 0, done.err
    cell = results(tmp_path / "run")["attacks"]["loss"]["student"]
    assert (cell["unscored"], cell["auc"]["n"], cell["auc"]["m"]) == (3, 10, 10)
    assert "left out for every model: 3 under loss, zlib" in done.out


@pytest.mark.parametrize("n", [1, 2])
def test_hardly_any_record_is_measured_without_a_fall(n: int, given: Given, tmp_path: Path) -> None:
    members, nonmembers = halves(tmp_path, n)
    few = given.having(members=members, nonmembers=nonmembers)
    done = few.attack(tmp_path / "run", "--reference", given.start, "--paper-compat", "--gate", "student.auc <= 0.99")
    assert done.code == 3, done.err
    assert results(tmp_path / "run")["attacks"]["recall"]["student"]["status"] == "not_applicable"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--attack", "los"), ["unknown attack 'los'", "did you mean 'loss'?"]),
        (("--attack", "nonsense"), ["unknown attack 'nonsense'", "min-k++", "paper"]),
        (("--gate", "studnt.auc <= 0.6"), ["unknown subject 'studnt'", "student"]),
        (("--gate", "student.acu <= 0.6"), ["unknown metric 'acu'", "did you mean 'auc'?"]),
        (("--gate", "student.auc[los] <= 0.6"), ["unknown attack 'los'", "did you mean 'loss'?"]),
        (("--gate", "student.auc[zlib] <= 0.6"), ["the run has no attack 'zlib'", "--attack zlib"]),
        (("--gate", "student-2.auc <= 0.6"), ["the run has no student-2"]),
        (("--gate", "student.auc <= 1.5"), ["1.5 is out of range", "between 0 and 1"]),
        (("--gate", "student.auc >= 0.5"), ["operator", "<="]),
        (("--gate", "student.member_success <= 0.5"), ["cannot be gated", "balanced_accuracy"]),
        (("--gate", "student.tpr@0.05 <= 0.5"), ["tpr@0.05 is not measured", "tpr@0.01"]),
        (("--gate", "better than last year"), ["not understood", "SUBJECT.METRIC"]),
        (("--n-shots", "0", "--max-tokens", "1"), ["--n-shots: 0", "--max-tokens: 1"]),
        (("--calibration-share", "1"), ["--calibration-share: 1 lies"]),
        (("--dtype", "float8"), ["--dtype: 'float8' is none of auto, float32"]),
        (("--text-field", "body"), ["lines 1", "'body'"]),
        (("--id-field", "number"), ["no record has the field 'number'"]),
    ],
)
def test_an_option_that_means_nothing_is_refused_with_what_to_write(
    options: tuple[str, ...], words: list[str], given: Given, finished: Path
) -> None:
    before = files_in(finished)
    check_refused(given.attack(finished, *FINISHED, "--reference", given.start, *options), *words)
    assert files_in(finished) == before


@pytest.mark.parametrize("option", ["--seed", "--limit"])
def test_a_number_that_is_none_is_refused(option: str, given: Given, finished: Path) -> None:
    done = given.attack(finished, *FINISHED, option, "many")
    assert done.code == 2
    assert f"Invalid value for '{option}'" in done.err
    assert "Traceback" not in done.err


def without(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in folder.glob(name):
            path.unlink()

    return change


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


BROKEN_CHECKPOINTS: dict[str, tuple[Callable[[Path], None], int, list[str]]] = {
    "no weights": (without("*.safetensors"), 2, ["holds no weights"]),
    "no tokenizer": (without("tokenizer*"), 2, ["has no tokenizer", "save_pretrained"]),
    "no config": (without("config.json"), 2, ["has no config.json"]),
    "truncated weights": (truncated, 4, ["damaged or incomplete"]),
}


@pytest.mark.parametrize(("change", "code", "words"), BROKEN_CHECKPOINTS.values(), ids=BROKEN_CHECKPOINTS)
def test_a_broken_checkpoint_is_refused_before_anything_is_measured(
    change: Callable[[Path], None], code: int, words: list[str], given: Given, finished: Path, tmp_path: Path
) -> None:
    broken, before = shutil.copytree(given.student, tmp_path / "broken"), files_in(finished)
    change(broken)
    done = given.having(student=broken).attack(finished, *FINISHED)
    check_refused(done, "--student", str(broken), *words, code=code)
    assert files_in(finished) == before


def test_weights_that_are_not_numbers_end_with_4_and_name_the_model(given: Given, tmp_path: Path) -> None:
    spoilt = shutil.copytree(given.student, tmp_path / "spoilt")
    weights = load_file(spoilt / "model.safetensors")
    for weight in weights.values():
        weight[...] = float("nan")
    save_file(weights, spoilt / "model.safetensors", metadata={"format": "pt"})
    out = tmp_path / "run"
    done = given.having(student=spoilt).attack(out, "--attack", "loss", "--gate", "student.auc <= 0.9", "--quiet")
    check_refused(done, f"student ({spoilt})", "NaN", code=4)
    assert not (out / "results.json").exists()


def test_a_hub_name_that_cannot_be_reached_ends_with_4_and_says_how_to_fetch_it(given: Given, finished: Path) -> None:
    done = given.having(teacher=Path("nobody/nothing")).attack(finished, *FINISHED)
    check_refused(done, "--teacher: nobody/nothing", "hf download nobody/nothing", code=4)


def test_a_checkpoint_path_that_is_none_is_refused(given: Given, finished: Path, tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none", "there is no folder"), (given.members, "is a file")):
        check_refused(given.having(teacher=path).attack(finished, *FINISHED), "--teacher", words)


def test_one_set_without_the_other_is_refused(given: Given, finished: Path) -> None:
    models = ("attack", "--teacher", given.teacher, "--student", given.student, "--out", finished)
    check_refused(kdaudit(*models), "--members FILE", "--nonmembers FILE", "kdaudit.json")
    check_refused(kdaudit(*models, "--members", given.members), "--members is given but --nonmembers is not")


def test_a_model_without_a_causal_mask_ends_with_4(
    given: Given, checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    done = given.having(student=checkpoint("bert", seed=1)).attack(tmp_path / "run", "--attack", "loss", "--quiet")
    check_refused(done, "student", code=4)
