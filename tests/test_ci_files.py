"""The composite action, the pre-commit hook and the documented workflow: what they run is what the program takes."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from kdaudit.report.formats import FORMATS
from tests.commands import kdaudit

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / ".github/actions/kdaudit/action.yml").read_text(encoding="utf-8"))
(HOOK,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
PAGE = (ROOT / ".github/docs/report.md").read_text(encoding="utf-8")
(WORKFLOW,) = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "jobs:" in block)


def report_step() -> dict[str, Any]:
    (step,) = (step for step in ACTION["runs"]["steps"] if step.get("id") == "report")
    return dict(step)


def run_step(folder: Path, **given: str) -> tuple[int, str, str]:
    """Run the action's report step as a runner would: exit code, output and what it set."""
    inputs = {name: declared.get("default", "") for name, declared in ACTION["inputs"].items()}
    inputs |= {name.replace("_", "-"): value for name, value in given.items()}
    step = report_step()
    filled = {
        name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda match: inputs[match[1]], value)
        for name, value in step["env"].items()
    }
    outputs = folder / "outputs.txt"
    environment = {**os.environ, **filled, "GITHUB_OUTPUT": str(outputs)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr, outputs.read_text(encoding="utf-8")


def test_the_action_runs_the_report_and_hands_on_its_exit_code(finished: Path, tmp_path: Path) -> None:
    name = "run $(touch forged) 'of' \"June\""
    shutil.copytree(finished, tmp_path / name, ignore=shutil.ignore_patterns("signals"))
    gates = "student.auc <= 0.6\n\nteacher.auc <= 0.9\n"
    code, out, outputs = run_step(tmp_path, runs=f"{name}\n", gates=gates, formats="md,junit")
    assert code == 3, out
    assert outputs == "exit-code=3\n"
    assert "student.auc<=0.6" in out
    assert "teacher.auc<=0.9" in out
    assert {path.name for path in (tmp_path / "kdaudit-report").iterdir()} == {"report.md", "report.xml"}
    assert not (tmp_path / "forged").exists()


def test_every_input_of_the_action_is_used_and_none_is_pasted_into_a_script() -> None:
    used = set(re.findall(r"inputs\.([\w-]+)", str(ACTION["runs"])))
    assert used == set(ACTION["inputs"])
    assert not any("${{" in step["run"] for step in ACTION["runs"]["steps"])
    assert set(ACTION["inputs"]["formats"]["default"].split(",")) == set(FORMATS)


def test_every_option_that_the_action_passes_exists() -> None:
    shown = kdaudit("report", "--help").out
    options = re.findall(r"\((--[a-z-]+)| (--[a-z-]+) \"", report_step()["run"])
    assert {option for pair in options for option in pair if option} >= {"--format", "--config", "--baseline", "--gate"}
    assert all(option in shown for pair in options for option in pair if option)


def test_the_hook_judges_a_committed_result(finished: Path, tmp_path: Path) -> None:
    results = shutil.copy(finished / "results.json", tmp_path / "results.json")
    assert re.search(HOOK["files"], "audits/results.json")
    assert not re.search(HOOK["files"], "audits/myresults.json")
    program, *arguments = shlex.split(HOOK["entry"]) + HOOK["args"]
    assert program == "kdaudit"
    assert kdaudit(*arguments, results).code == 0
    assert (tmp_path / "report.md").is_file()


def test_the_hook_keeps_a_report_beside_each_of_several_results(finished: Path, tmp_path: Path) -> None:
    found = []
    for name in ("june", "july"):
        (tmp_path / name).mkdir()
        found.append(shutil.copy(finished / "results.json", tmp_path / name / "results.json"))
    _, *arguments = shlex.split(HOOK["entry"]) + HOOK["args"]
    done = kdaudit(*arguments, *found)
    assert done.code == 0, done.err
    alone = [(tmp_path / name / "report.md").read_text(encoding="utf-8") for name in ("june", "july")]
    assert alone[0].replace("june", "july") == alone[1]
    assert kdaudit(*arguments, "--gate", "student.auc <= 0.6", *found).code == 3
    assert kdaudit(*arguments, found[0], tmp_path / "none.json").code == 2
    assert kdaudit("report", "--each", "--out", tmp_path / "out", *found).code == 2


def steps() -> list[dict[str, Any]]:
    (job,) = WORKFLOW["jobs"].values()
    return list(job["steps"])


def test_the_workflow_of_the_readme_gives_the_action_what_it_takes() -> None:
    (used,) = (step for step in steps() if "actions/kdaudit@" in step.get("uses", ""))
    assert set(used["with"]) <= set(ACTION["inputs"])
    required = {name for name, declared in ACTION["inputs"].items() if declared.get("required")}
    assert required <= set(used["with"])


def test_what_the_workflow_uploads_is_what_the_action_writes() -> None:
    (used,) = (step for step in steps() if "actions/kdaudit@" in step.get("uses", ""))
    out = used["with"].get("out", ACTION["inputs"]["out"]["default"])
    uploads = [
        value for step in steps() for key, value in step.get("with", {}).items() if key in ("sarif_file", "path")
    ]
    assert f"{out}/report.sarif" in uploads
    assert used["with"]["runs"] not in uploads, "ids and scores together say who was a member"
