"""kdaudit in Python: light to import, as typed as it is, and the same figures as the commands."""

import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent, wrap
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import pandas
import pytest

import kdaudit
from kdaudit import api
from kdaudit.cli.docs import pages
from kdaudit.config import AuditConfig
from kdaudit.distill.settings import DistillConfig
from kdaudit.options import options_of
from tests.commands import NAMES, Given, fewer_resamples, files_in, results
from tests.commands import kdaudit as kdaudit_command
from tests.conftest import Golden

KEYWORDS = '''"""Options as keywords, written by `pytest --update-golden` from the fields of the configurations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict
'''


def test_importing_the_package_loads_nothing_heavy_and_a_results_file_needs_no_torch(finished: Path) -> None:
    code = (
        "import sys, kdaudit\n"
        "heavy = {'torch', 'transformers', 'numpy', 'pandas', 'scipy', 'sklearn', 'datasets', 'pyarrow', 'typer'}\n"
        "print(sorted(heavy & set(sys.modules)), sorted(dir(kdaudit)) == sorted(kdaudit.__all__))\n"
        f"kdaudit.to_pandas(kdaudit.load_results({str(finished)!r}))\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'typer'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[] True", "[]"]
    assert done.stderr == ""


def test_every_name_of_the_face_is_there_and_another_one_is_an_attribute_error() -> None:
    for name in kdaudit.__all__:
        assert getattr(kdaudit, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'adit'"):
        _ = kdaudit.adit  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "module"), [("audit", "data"), ("distill", "settings")])
def test_a_function_and_the_subpackage_of_its_name_are_both_there(name: str, module: str) -> None:
    stage = getattr(kdaudit, name)
    assert inspect.signature(stage) == inspect.signature(getattr(api, name))
    code = f"import kdaudit.{name}.{module} as module, kdaudit; print(module.__name__, callable(kdaudit.{name}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"kdaudit.{name}.{module}", "True"]


def shown(hint: Any, *, is_path: bool = False) -> str:
    """A type as a user of Python gives it: a list where a configuration has a tuple, a path where a text names one."""
    parts = [shown(one, is_path=is_path) for one in get_args(hint)]
    if get_origin(hint) is tuple:
        return f"str | Sequence[{parts[0]}]"
    if parts:
        return " | ".join(parts)
    text = "str | Path" if is_path else "str"
    return {NoneType: "None", Path: "str | Path", Ellipsis: "...", str: text}.get(hint) or hint.__name__


def keywords() -> Iterator[str]:
    yield KEYWORDS
    for config, function in ((AuditConfig, api.audit), (DistillConfig, api.distill)):
        own = {*inspect.signature(function).parameters, "students"}
        hints = get_type_hints(config)
        yield f"\nclass {config.__name__.removesuffix('Config')}Keywords(TypedDict, total=False):"
        yield f'    """The further options of `kdaudit.{function.__name__}`."""\n'
        for one in options_of(config):
            if one.field not in own:
                yield f"    {one.field}: {shown(hints[one.field], is_path=one.option.names is not None)}"
                words = re.sub(r"--([a-z-]+)", lambda found: found[1].replace("-", "_"), one.option.help)
                yield indent("\n".join(wrap(f'"""{words}"""', 116)), "    ")
        yield ""


def test_the_keywords_of_the_functions_are_the_fields_of_the_configurations(golden: Golden) -> None:
    golden.check("../../kdaudit/keywords.py", "\n".join(keywords()).rstrip("\n") + "\n")


@pytest.fixture(scope="module")
def folder(given: Given, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a notebook, with what the page on Python names in it."""
    found = tmp_path_factory.mktemp("notebook")
    for name in ("teacher", "student", "start"):
        (found / name).symlink_to(getattr(given, name), target_is_directory=True)
    for name in ("members", "nonmembers"):
        (found / f"{name}.jsonl").symlink_to(getattr(given, name))
    with pytest.MonkeyPatch.context() as patch, fewer_resamples():
        patch.chdir(found)
        yield found


def words(printed: str) -> list[str]:
    """The words of the first line, whatever a gate ends with."""
    return re.findall(r"[a-z_]{2,}", re.sub(r"pass|fail|inconclusive", "status", printed.splitlines()[0]))


def test_the_page_on_python_runs_as_written_and_prints_what_it_shows(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```(python|text)\n(.*?)```", pages()["python"], re.DOTALL)
    known: dict[str, Any] = {}
    printed = ""
    for kind, block in blocks:
        if kind == "python":
            exec(compile(block, "python.md", "exec"), known)
            printed, err = capsys.readouterr()
            assert err == ""
        else:  # other checkpoints, other figures: what is printed has the words that are shown
            assert words(printed) == words(block)
            assert len(printed.splitlines()) == len(block.splitlines())
    assert printed == "unknown keyword 'atacks'\ndid you mean 'attacks'?\n"
    assert {"frame", "verdict", "made", "scores"} <= known.keys()
    left = {path.name for path in folder.iterdir() if not path.is_symlink()}
    assert left == {"my-student", "my-student.kdaudit-key", "run"}


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def figures(out: Path) -> dict[str, Any]:
    content = results(out)
    del content["data"]["sources"]
    return content


def test_records_in_memory_give_the_figures_of_the_files_and_stand_in_no_file(
    given: Given, finished: Path, folder: Path, tmp_path: Path
) -> None:
    members, nonmembers = rows_of(given.members), rows_of(given.nonmembers)
    sets: list[tuple[Any, Any]] = [(members, nonmembers), (pandas.DataFrame(members), pandas.DataFrame(nonmembers))]
    for number, (first, second) in enumerate(sets):
        out = tmp_path / str(number)
        kdaudit.audit(
            given.teacher, [given.student], members=first, nonmembers=second, reference=given.start,
            attacks=("loss", "reference"), out=out,
        )  # fmt: skip
        assert figures(out) == figures(finished)
        assert results(out)["data"]["sources"][0]["source"] == "in memory"
        content = b"".join(files_in(out).values())
        assert not [name for name in NAMES if name.encode() in content]
        assert (out / "scores.parquet").read_bytes() == (finished / "scores.parquet").read_bytes()


def test_texts_alone_are_records_without_ids(given: Given, folder: Path) -> None:
    texts = [[row["text"] for row in rows_of(path)] for path in (given.members, given.nonmembers)]
    found = kdaudit.audit("teacher", "student", members=texts[0], nonmembers=iter(texts[1]), attacks="loss")
    paths = Path("members.jsonl"), "nonmembers.jsonl"
    out = folder / "for-report"
    expected = kdaudit.audit("teacher", "student", members=paths[0], nonmembers=paths[1], attacks="loss", out=out)
    assert kdaudit_command("report", out, "--format", "md").code == 0
    shutil.rmtree(out)
    assert found.attacks == expected.attacks


def test_a_frame_of_results_holds_every_figure_of_the_file(finished: Path) -> None:
    frame = kdaudit.to_pandas(kdaudit.load_results(finished))
    assert list(frame.columns) == list(api.COLUMNS)
    content = results(finished)
    expected: dict[tuple[str, str, bool, str], Any] = {}
    for attack, found in content["attacks"].items():
        cells = {(model, False): found[model] for model in ("teacher", "student")}
        cells |= {(model, True): part for model, part in found["comparison"].items()}
        for (model, is_difference), cell in cells.items():
            metrics = {**cell, **{f"tpr@{fpr}": one for fpr, one in cell.get("tpr_at_fpr", {}).items()}}
            for name, figure in metrics.items():
                if isinstance(figure, dict) and "value" in figure:
                    expected[attack, model, is_difference, name] = figure
    assert len(frame) == len(expected)
    for row in frame.to_dict("records"):
        figure = expected[row["attack"], row["model"], row["minus"] == "teacher", row["metric"]]
        for name in ("value", "low", "high", "p_value", "p_value_holm"):
            assert pandas.isna(row[name]) if figure.get(name) is None else row[name] == figure[name]
        assert (row["n"], row["m"], row["reason"]) == (figure["n"], figure["m"], figure.get("reason", ""))


def test_an_attack_that_cannot_run_has_one_row_that_says_why(folder: Path) -> None:
    found = kdaudit.audit("teacher", "student", members="members.jsonl", nonmembers="nonmembers.jsonl")
    frame = kdaudit.to_pandas(found)
    (row,) = frame[(frame.attack == "reference") & (frame.model == "teacher")].to_dict("records")
    assert "no reference model was given" in row["reason"]
    assert pandas.isna(row["value"])
    assert pandas.isna(row["metric"])


def test_scores_are_those_of_the_file(finished: Path) -> None:
    frame = kdaudit.load_scores(finished)
    assert list(frame.columns) == ["id", "member", "part", "model", "attack", "score"]
    assert len(frame) == 48 * 2 * 2
    with pytest.raises(kdaudit.KdauditError, match="not a scores file"):
        kdaudit.load_scores(finished / "results.json")


def test_gates_are_judged_as_by_the_command(given: Given, finished: Path, tmp_path: Path) -> None:
    done = kdaudit_command("report", finished, "--gate", "student.auc <= 0.6", "--format", "json", "--out", tmp_path)
    assert done.code == 3, done.err
    reported = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["runs"][0]["verdict"]
    assert kdaudit.judge(finished, "student.auc <= 0.6") == kdaudit.judge(str(finished), ["student.auc <= 0.6"])
    assert kdaudit.to_pandas(finished).equals(kdaudit.to_pandas(kdaudit.load_results(finished)))
    with pytest.raises(kdaudit.KdauditError, match="list where results of an audit are needed"):
        kdaudit.judge([], "student.auc <= 0.6")  # type: ignore[arg-type]  # what a user might try
    judged = kdaudit.judge(kdaudit.load_results(finished), "student.auc <= 0.6")
    assert (judged.status, judged.sentence) == (reported["status"], reported["sentence"])
    with pytest.raises(kdaudit.KdauditError, match="the run has no attack 'zlib'"):
        kdaudit.judge(kdaudit.load_results(finished), ["student.auc[zlib] <= 0.6"])


def test_a_student_of_records_in_memory_is_audited_with_them_given_again_or_in_a_file(
    given: Given, folder: Path, tmp_path: Path
) -> None:
    members, nonmembers = rows_of(given.members), rows_of(given.nonmembers)
    made = kdaudit.distill(
        given.teacher, members, tmp_path / "made", student=given.start, nonmembers=nonmembers, epochs=1, lr=1e-3
    )
    with pytest.raises(kdaudit.KdauditError, match="distilled on records in memory, and they are not given") as caught:
        kdaudit.audit(given.teacher, made.folder, attacks="loss")
    assert "give them again: train FILE" in str(caught.value)
    found = [
        kdaudit.audit(given.teacher, made.folder, train=train, nonmembers=others, attacks="loss")
        for train, others in ((members, nonmembers), (given.members, given.nonmembers))
    ]
    assert found[0].attacks == found[1].attacks
    said = found[0].models["student"].distillation
    assert said is not None
    assert said.utility == made.utility
    content = b"".join(files_in(made.folder).values())
    assert not [name for name in NAMES if name.encode() in content]
    assert not list(tmp_path.glob("made/*key*"))
    again = kdaudit.distill(
        given.teacher, members, tmp_path / "made", student=given.start, nonmembers=nonmembers, epochs=1, lr=1e-3
    )
    assert again == made


@pytest.mark.parametrize(
    ("given_as", "said"),
    [
        ({"membrs": []}, "unknown keyword 'membrs'"),
        ({"members": ["a", 3], "nonmembers": ["b"]}, "members in memory, row 2: a number where a text"),
        ({"members": [{"txt": "a"}], "nonmembers": ["b"]}, "did you mean 'text_field txt'?"),
        ({"members": ["a"]}, "members is given but nonmembers is not"),
        ({"members": 3, "nonmembers": ["b"]}, "members: int is neither a path nor a list of records"),
        ({"data": {"text": ["a"], "label": [1]}}, "data: dict where a text or a list of texts is needed"),
        ({"members": ["a"], "nonmembers": ["b"], "limit": "5"}, "limit: str where int or None is needed"),
        ({"members": ["a"], "nonmembers": ["a"]}, "one text stands in both members in memory and nonmembers in memory"),
    ],
)
def test_what_cannot_be_used_is_one_error_that_says_what_to_do(
    given_as: dict[str, Any], said: str, folder: Path
) -> None:
    before = files_in(folder)
    with pytest.raises(kdaudit.KdauditError, match=re.escape(said)) as caught:
        kdaudit.audit("teacher", "student", **given_as)
    assert caught.value.hint == "" or len(str(caught.value).splitlines()) > 1
    assert files_in(folder) == before


def test_a_notebook_keeps_the_settings_of_its_libraries(folder: Path) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    told: list[tuple[str, int, int]] = []
    kdaudit.audit(
        "teacher", "student", members="members.jsonl", nonmembers="nonmembers.jsonl", attacks=["loss"],
        on_progress=lambda stage, done, total: told.append((stage, done, total)),
    )  # fmt: skip
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert told[-1] == ("judging", 3, 3)
