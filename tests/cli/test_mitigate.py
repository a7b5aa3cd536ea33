"""`kdaudit mitigate` as a user meets it: the table, continuing, gates, and what is refused before anything long."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from kdaudit import manifest
from kdaudit.distill import run as distillation
from kdaudit.distill.learn import Told, learn
from kdaudit.distill.prepare import Prepared, prepare
from kdaudit.distill.settings import DistillConfig
from kdaudit.mitigate import METHODS
from kdaudit.mitigate import run as comparison
from kdaudit.results.mitigation import Mitigation, load
from kdaudit.verdict import rules
from tests.commands import NAMES, Done, check_refused, counted_loads, files_in, halves, kdaudit, results

N = 70


class KilledError(BaseException):
    """Stands for a signal that leaves no time."""


@contextmanager
def counted_students(*, kill_after: int | None = None) -> Iterator[list[str]]:
    """Collects the students that are trained, as ARM/seed-N; the process dies when one more than so many would be."""
    made: list[str] = []

    def learning(prepared: Prepared, told: Told) -> list[float]:
        out = prepared.config.out
        if out.name.startswith("seed-"):  # else a rehearsal
            finished = len(list(out.parent.parent.glob("*/seed-*/kdaudit.json")))
            if finished == kill_after:
                raise KilledError
            made.append(f"{out.parent.name}/{out.name}")
        return learn(prepared, told)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distillation, "learn", learning)
        yield made


TRAINING = {"--epochs": 2, "--batch-tokens": 512, "--lr": 0.005, "--seeds": 2}
ASKED = ("--method", "non-vulnerable", "--method", "bottleneck", "--method", "soft-only", "--method", "early-stop")
ARMS = ["non-vulnerable", "non-vulnerable-control", "bottleneck", "soft-only"]


@dataclass(frozen=True)
class Compared:
    """A finished comparison, and what it was given."""

    folder: Path
    teacher: Path
    start: Path
    done: Done

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def inputs(self) -> dict[str, object]:
        data = {"--train": self.folder / "members.jsonl", "--nonmembers": self.folder / "nonmembers.jsonl"}
        return {"--teacher": self.teacher, "--student": self.start, **data, "--key-file": self.folder / "key"}

    def again(self, *options: object, out: Path | None = None) -> Done:
        """The same comparison, but for the options that are given."""
        settings = {**self.inputs(), **TRAINING, "--out": out or self.out}
        kept = [part for name, value in settings.items() if name not in options for part in (name, value)]
        return kdaudit("mitigate", *kept, "--quiet", *options)

    def table(self) -> Mitigation:
        return load(self.out / "mitigation.json")


@pytest.fixture(scope="session")
def compared(checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Compared:
    folder = tmp_path_factory.mktemp("compared")
    halves(folder, N)
    found = Compared(folder, checkpoint(seed=1), checkpoint(seed=3), Done(0, "", ""))
    done = found.again(*ASKED)
    assert done.code == 0, done.err
    return Compared(folder, found.teacher, found.start, done)


def test_every_arm_stands_in_the_table_with_every_seed_and_the_plain_run_with_every_epoch(compared: Compared) -> None:
    table = compared.table()
    assert list(table.arms) == ["plain", "plain-1", *ARMS, "early-stop-1"]
    assert [(student.seed, student.epoch) for student in table.plain] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    for arm in table.arms.values():
        assert [student.seed for student in arm.students] == [0, 1]
        for student in arm.students:
            assert (compared.out / student.checkpoint / "config.json").is_file()
            assert list(student.leaks) == ["reference", "loss", "min-k"]
        for attack, audit in arm.attacks.items():
            cells = [cell for name, cell in audit.cells.items() if name != "teacher"]
            assert [cell.auc for cell in cells] == [student.leaks[attack].figures["auc"] for student in arm.students]
            rates = [student.leaks[attack].figures["tpr@0.01"] for student in arm.students]
            assert [cell.figures["tpr@0.01"] for cell in cells] == rates
    assert table.arms["bottleneck"].students[0].n_replaced == 2
    assert (table.attack, table.metric) == ("reference", "auc")
    assert table.arms["non-vulnerable-control"].control_of == "non-vulnerable"


def test_all_original_members_are_judged_also_where_some_were_left_out(compared: Compared) -> None:
    for arm in compared.table().arms.values():
        assert {(s.leaks["loss"].figures["auc"].n, s.leaks["loss"].figures["auc"].m) for s in arm.students} == {(N, N)}
    contents = [manifest.load(compared.out / arm / "seed-1" / "kdaudit.json").data for arm in ARMS]
    kept, control, *others = (len(content["left_out"]) for content in contents)
    assert 0 < kept == control < N
    assert contents[0]["left_out"] != contents[1]["left_out"]
    assert others == [0, 0]
    subsets = compared.table().arms["non-vulnerable"].subsets
    assert subsets["kept"]["loss"].n == N - kept
    assert subsets["dropped"]["loss"].n == kept
    assert (subsets["kept_plain"]["loss"].n, subsets["dropped_plain"]["loss"].n) == (N - kept, kept)
    assert subsets["kept_plain"]["loss"] != subsets["kept"]["loss"]
    plain = compared.table().plain[1].leaks["loss"].figures["auc"]
    parts = [(subsets[name]["loss"].value or 0, subsets[name]["loss"].n) for name in ("kept_plain", "dropped_plain")]
    assert plain.value == pytest.approx(sum(value * n for value, n in parts) / N)


def test_an_arm_is_held_against_its_control_and_over_the_members_that_it_kept_and_dropped(compared: Compared) -> None:
    arms = compared.table().arms
    for attack in ("reference", "loss", "min-k"):
        chosen, control = (arms[name].placed[attack]["auc"] for name in ("non-vulnerable", "non-vulnerable-control"))
        assert chosen.vs_control is not None
        assert control.vs_control is None
        assert control.finding != "helps"
        for placed in (chosen, control):
            # The members that are dropped are too few to be judged apart.
            assert [*placed.groups] == ["all", "kept"]
    assert "non-vulnerable-control" in compared.done.out
    assert "dropped members are too few to be judged apart" in compared.done.out


def test_the_frontier_has_the_start_copies_inside_every_epoch_and_a_shorter_run(compared: Compared) -> None:
    table = compared.table()
    utility = manifest.load(compared.out / "plain" / "seed-0" / "kdaudit.json").content["utility"]
    for attack in ("reference", "loss", "min-k"):
        points = {(point.run, point.epochs): point for point in table.frontier[attack]["auc"]}
        assert [*points] == [(0, 0), *((2, quarters / 4) for quarters in range(1, 9)), (1, 1)]
        assert points[0, 0].nll == pytest.approx(utility["nll"]["start"]["value"], rel=1e-5)
    assert table.frontier["reference"]["auc"][0].leak == 0.5  # the start against itself
    short = table.arms["plain-1"]
    assert short.is_plain
    assert [student.checkpoint for student in short.students] == ["plain-1/seed-0", "plain-1/seed-1"]
    placed = short.placed["min-k"]["auc"].point
    assert placed is not None
    assert placed.leak == pytest.approx(np.mean([s.leaks["min-k"].figures["auc"].value or 0 for s in short.students]))


def test_an_arms_figures_are_those_that_attack_and_distill_give(compared: Compared, tmp_path: Path) -> None:
    student = compared.out / "bottleneck" / "seed-1"
    done = kdaudit(
        "attack", "--teacher", compared.teacher, "--student", student, "--student-reference", compared.start,
        "--key-file", compared.folder / "key", "--attack", "reference", "--attack", "min-k", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.code == 0, done.err
    ours = compared.table().arms["bottleneck"].students[1]
    for attack in ("reference", "min-k"):
        theirs = results(tmp_path / "run")["attacks"][attack]["student"]["auc"]
        audited = compared.table().arms["bottleneck"].attacks[attack].cells["student-2"]
        for found in (ours.leaks[attack].figures["auc"], audited.auc):
            assert found is not None
            ends = (found.value, found.low, found.high)
            assert ends == pytest.approx([theirs[end] for end in ("value", "low", "high")])
    utility = manifest.load(student / "kdaudit.json").content["utility"]
    assert ours.nll.value == pytest.approx(utility["nll"]["student"]["value"], rel=1e-5)
    assert ours.bits_per_byte.value == pytest.approx(utility["bits_per_byte"]["student"]["value"], rel=1e-5)


def test_changes_are_paired_with_the_finished_plain_student_of_the_same_seed(compared: Compared) -> None:
    table = compared.table()
    finished = {student.seed: student for student in table.plain if student.epoch == 2}
    for name, arm in table.arms.items():
        for student in arm.students if name != "plain" else ():
            for attack, leak in student.leaks.items():
                plain = finished[student.seed].leaks[attack]
                own, other = leak.figures["auc"].value, plain.figures["auc"].value
                assert own is not None
                assert other is not None
                assert leak.changes["auc"].value == pytest.approx(own - other)
                assert plain.changes == {}
    (point,) = (one for one in table.frontier["reference"]["auc"] if (one.run, one.epochs) == (2, 2))
    assert point.leak == pytest.approx(
        np.mean([s.leaks["reference"].figures["auc"].value or 0 for s in finished.values()])
    )
    assert point.nll == pytest.approx(np.mean([s.nll.value or 0 for s in finished.values()]), rel=1e-6)


def test_the_same_command_loads_no_model_and_leaves_the_same_bytes(compared: Compared) -> None:
    before = files_in(compared.out)
    with counted_loads() as loads:
        done = compared.again("--method", ",".join(ASKED[1::2]))
    assert done.code == 0, done.err
    assert loads == []
    assert files_in(compared.out) == before
    assert done.out == compared.done.out


def test_a_killed_comparison_continues_to_the_same_figures_and_makes_nothing_twice(
    compared: Compared, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for n_finished in (1, 5):
        with counted_students(kill_after=n_finished):
            assert compared.again("--method", "soft-only", out=out).code == 4
    with counted_students() as made:
        done = compared.again("--method", "soft-only", out=out)
    assert done.code == 0, done.err
    assert made == ["soft-only/seed-1"]
    ours, whole = load(out / "mitigation.json"), compared.table()
    assert ours.plain == whole.plain
    assert ours.frontier == whole.frontier
    for mine, theirs in zip(ours.arms["soft-only"].students, whole.arms["soft-only"].students, strict=True):
        assert (mine.nll, mine.leaks["loss"].figures["auc"]) == (theirs.nll, theirs.leaks["loss"].figures["auc"])


def test_gates_are_judged_for_every_seed_at_a_level_for_all_arms_and_the_most_useful_arm_is_named(
    compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MIN_RECORDS", N)
    out = tmp_path / "out"
    shutil.copytree(compared.out, out)
    done = compared.again(*ASKED, "--set", "min-k.fraction=0.9", "--gate", "student.auc[loss] <= 0.99", out=out)
    assert done.code == 0, done.err
    table, before = load(out / "mitigation.json"), compared.table()
    assert table.config["settings"] == ["min-k.fraction=0.9"]
    assert table.arms["plain"].attacks["min-k"].settings == {"fraction": 0.9}
    assert table.arms["plain"].attacks["min-k"].cells != before.arms["plain"].attacks["min-k"].cells
    assert table.arms["plain"].attacks["loss"].cells == before.arms["plain"].attacks["loss"].cells
    for arm in table.arms.values():
        assert [(gate.gate, gate.status, gate.level) for gate in arm.gates] == [
            ("student.auc[loss]<=0.99", "pass", 1 - 0.05 / 7), ("student-2.auc[loss]<=0.99", "pass", 1 - 0.05 / 7),
        ]  # fmt: skip
    takable = {
        name: arm for name, arm in table.arms.items() if arm.control_of is None and arm.finding != "moves the risk"
    }
    nll = {name: sum(s.nll.value or 0 for s in arm.students) for name, arm in takable.items()}
    assert table.recommended == min(nll, key=lambda name: nll[name])
    assert f"Recommended: {table.recommended}" in done.out
    link = out / "recommended"
    assert link.resolve() == (out / table.arms[str(table.recommended)].students[0].checkpoint).resolve()
    assert (link / "config.json").is_file()
    again = kdaudit("report", out, "--gate", "student.auc[loss] <= 0.99", "--out", tmp_path, "--format", "json")
    assert again.code == 0, again.err
    assert load(tmp_path / "report.json") == table

    hopeless = ("--method", "soft-only", "--gate", "student.auc[loss] <= 0.01")
    done = compared.again(*hopeless, out=out)
    assert done.code == 1, done.err
    assert load(out / "mitigation.json").recommended is None
    assert not link.is_symlink()
    assert "No arm passes every gate." in done.out
    assert compared.again(*hopeless, "--exit-zero", out=out).code == 0


def test_gates_come_from_the_configuration_file_where_none_is_given(
    compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(compared.out, out)
    monkeypatch.chdir(tmp_path)
    waiver = '[[waivers]]\ngate = "student.auc[loss] <= 0.01"\nreason = "r"\nexpires = 2999-01-01\n'
    Path("kdaudit.toml").write_text(f'gates = ["student.auc[loss] <= 0.01"]\n{waiver}', encoding="utf-8")
    done = compared.again(*ASKED, out=out)
    assert done.code == 1, done.err
    assert "the waivers of kdaudit.toml do not count here" in done.out
    monkeypatch.setenv("KDAUDIT_GATES", "student.auc[loss] <= 0.02; student.auc[min-k] <= 0.02")
    assert compared.again(*ASKED, out=out).code == 1
    assert load(out / "mitigation.json").config["gates"] == ["student.auc[loss]<=0.02", "student.auc[min-k]<=0.02"]


def test_from_takes_everything_from_the_manifest(compared: Compared, tmp_path: Path) -> None:
    out, plain = tmp_path / "out", compared.out / "plain" / "seed-0"
    done = kdaudit(
        "mitigate", "--from", plain, "--method", "early-stop", "--seeds", "1", "--out", out, "--quiet"
    )  # fmt: skip
    assert done.code == 0, done.err
    ours, whole = load(out / "mitigation.json"), compared.table()
    assert ours.plain == tuple(student for student in whole.plain if student.seed == 0)
    assert "one seed cannot tell luck from help" in done.out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("start", "start that"),
        ("train", "has changed since the student was distilled"),
        ("manifest", "was changed after distill wrote it"),
    ],
)
def test_a_manifest_whose_start_is_gone_or_whose_records_changed_is_refused(
    compared: Compared, tmp_path: Path, change: str, words: str
) -> None:
    student, options = tmp_path / "student", []
    shutil.copytree(compared.out / "plain" / "seed-0", student)
    path = student / "kdaudit.json"
    if change == "train":
        lines = (compared.folder / "members.jsonl").read_text().splitlines()
        (tmp_path / "members.jsonl").write_text("\n".join(lines[1:]))
        options = ["--train", str(tmp_path / "members.jsonl")]
    content = json.loads(path.read_text())
    if change == "start":
        content["start"]["name"] = str(tmp_path / "gone")
    if change == "manifest":
        content["training"]["lr"] = 0.006
    path.write_text(json.dumps(content))
    done = kdaudit("mitigate", "--from", student, "--method", "lora", "--out", tmp_path / "out", "-q", *options)
    check_refused(done, words)


REFUSED: dict[str, tuple[list[str], str]] = {
    "unknown method": (["--method", "botleneck"], "did you mean"),
    "too wide": (["--method", "bottleneck", "--bottleneck", "31"], "save no weight"),
    "unknown among several": (["--method", "lora,botleneck"], "unknown method 'botleneck'"),
    "one epoch": (["--method", "lora", "--epochs", "1"], "leaves no frontier"),
    "few points": (["--method", "lora", "--frontier-points", "3"], "--frontier-points: 3 is too small"),
    "no numbers": (["--method", "lora", "--plain-epochs", "1,x"], "'1,x' is not a list of whole numbers"),
    "no epoch": (["--method", "lora", "--plain-epochs", "0,1"], "--plain-epochs: 0 is too small"),
    "no seed": (["--method", "lora", "--seeds", "0"], "--seeds: 0"),
    "shots": (["--method", "non-vulnerable", "--vulnerability-attack", "recall"], "takes non-members out as shots"),
    "already so": (["--method", "soft-only", "--hard-weight", "0"], "the plain run does that already"),
    "contradiction": (["--method", "soft-only", "--objective", "hard"], "--method soft-only: --hard-weight"),
    "foreign gate": (["--method", "lora", "--gate", "student.auc[zlib]<=1"], "are attacked by reference, loss, min-k"),
    "hint on gates": (
        ["--method", "lora", "--gate", "student.auc[zlib]<=1"],
        "replaces those in the configuration file",
    ),
    "second student": (["--method", "lora", "--gate", "student-2.auc<=1"], "there is no student-2"),
    "broken gate": (["--method", "lora", "--gate", "auc"], "not understood"),
    "two strengths": (["--method", "lora", "--method-lora", "0", "--bottleneck", "-1"], "--method-lora: 0"),
}


@pytest.mark.parametrize(("options", "words"), REFUSED.values(), ids=list(REFUSED))
def test_bad_options_are_refused_before_anything_is_trained(
    compared: Compared, tmp_path: Path, options: list[str], words: str
) -> None:
    with counted_students() as made:
        check_refused(compared.again(*options, out=tmp_path / "out"), words)
    assert made == []


def test_a_method_whose_modules_the_architecture_lacks_is_refused_naming_what_it_has(
    compared: Compared, checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    mamba = checkpoint("mamba", seed=3)
    done = compared.again("--method", "bottleneck", "--student", mamba, out=tmp_path / "out")
    check_refused(done, "MambaForCausalLM has no feed-forward expansion", "Conv1d")


def test_a_lost_key_is_named_and_no_new_one_written(compared: Compared, tmp_path: Path) -> None:
    student = compared.out / "plain" / "seed-0"
    lost = tmp_path / "lost"
    options = ["--from", student, "--method", "lora", "--key-file", lost, "--out", tmp_path / "out", "-q"]
    check_refused(kdaudit("mitigate", *options), "the key of the record ids", "--key-file")
    assert not lost.exists()


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_a_students_own_folder_is_no_place_for_a_comparison(
    compared: Compared, tmp_path: Path, options: tuple[str, ...]
) -> None:
    student = tmp_path / "student"
    shutil.copytree(compared.out / "plain" / "seed-0", student)
    before = files_in(student)
    check_refused(compared.again("--method", "lora", *options, out=student), "is a student's folder")
    assert files_in(student) == before


def test_a_folder_of_something_else_is_left_alone(compared: Compared, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    check_refused(compared.again("--method", "lora", out=tmp_path), "holds no comparison of mitigations", "letter.txt")
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_another_strength_is_no_continuation(compared: Compared) -> None:
    before = files_in(compared.out / "bottleneck" / "seed-0")
    done = compared.again("--method", "bottleneck", "--bottleneck", "0.5")
    check_refused(done, "holds a student with other settings", "start fingerprint")
    assert files_in(compared.out / "bottleneck" / "seed-0") == before


def test_overwrite_starts_over_and_clears_what_a_killed_rehearsal_left(compared: Compared, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(compared.out, out)
    (out / "rehearsal-x.tmp").mkdir()
    (out / "mine.txt").write_text("mine")
    (out / "recommended").symlink_to("bottleneck/seed-0")
    with counted_students(kill_after=0):
        assert compared.again("--method", "lora", "--overwrite", out=out).code == 4
    assert sorted(path.name for path in out.iterdir()) == ["mine.txt", "plain", "signals"]


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_what_is_no_link_is_never_taken_for_the_recommended_one(
    compared: Compared, tmp_path: Path, options: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(compared.out, out)
    (out / "recommended").mkdir()
    (out / "recommended" / "mine.txt").write_text("mine")
    before = files_in(out)
    check_refused(compared.again("--method", "lora", *options, out=out), "recommended is not a link", "move it away")
    assert files_in(out) == before


def test_several_processes_are_refused(compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepared_by_two(config: DistillConfig) -> Prepared:
        settled = prepare(config)
        return replace(settled, compute=replace(settled.compute, n_processes=2))

    monkeypatch.setattr(comparison, "prepare", prepared_by_two)
    check_refused(compared.again("--method", "lora", out=tmp_path / "out"), "in one process, not in 2")


def test_neither_teacher_nor_from_is_refused(tmp_path: Path) -> None:
    check_refused(kdaudit("mitigate", "--method", "lora", "--out", tmp_path), "--teacher is needed, or --from")


def test_no_text_of_a_record_is_left_anywhere(compared: Compared) -> None:
    for name, content in files_in(compared.out).items():
        if "tokenizer" not in name:
            assert not [word for word in NAMES if word.encode() in content], name


def test_the_methods_are_listed() -> None:
    done = kdaudit("mitigate", "--list-methods")
    assert done.code == 0
    for name, method in METHODS.items():
        assert name in done.out
        assert method.summary in " ".join(done.out.split())
