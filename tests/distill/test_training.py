"""The loop: what may not change the weights, what must, and what a killed run leaves behind."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kdaudit.distill.data import Curriculum
from kdaudit.distill.folder import newest_checkpoint
from kdaudit.distill.student import LossTerms, matched_layers
from kdaudit.distill.trainer import Watch
from kdaudit.errors import ModelError
from kdaudit.targets.plan import Example
from tests import tiny
from tests.distill.training import SETTINGS, TERMS, largest_gap, plan_of, run, some_examples

HARD = LossTerms(objective="hard", beta=None, hard_weight=1.0, temperature=1.0)


def student(architecture: str = "llama", seed: int = 2) -> torch.nn.Module:
    made: torch.nn.Module = tiny.model(architecture, seed=seed)
    return made


def test_the_loss_falls_and_the_weights_move(tmp_path: Path) -> None:
    trained = student()
    losses = run(trained, tmp_path, teacher=tiny.model("llama", seed=1), plan=plan_of(some_examples(), epochs=8))
    assert losses[-1] < 0.8 * losses[0]
    assert largest_gap(trained, student()) > 1e-3


@pytest.mark.parametrize("schedule", ["one-cycle", "linear"])
def test_a_single_step_is_taken_at_the_learning_rate(schedule: str, tmp_path: Path) -> None:
    trained, settings = student(), replace(SETTINGS, schedule=schedule, weight_decay=0.0)
    run(trained, tmp_path, terms=HARD, settings=settings, plan=plan_of(some_examples(), epochs=1, step_tokens=10**6))
    assert largest_gap(trained, student()) == pytest.approx(SETTINGS.lr, rel=1e-3)  # the size of AdamW's first step


@pytest.mark.parametrize("n_parts", [3, 7])
def test_splitting_a_step_changes_no_weight(n_parts: int, tmp_path: Path) -> None:
    whole, split = student(), student()
    teacher = tiny.model("llama", seed=1)
    run(whole, tmp_path / "whole", teacher=teacher)
    run(split, tmp_path / "split", teacher=teacher, settings=replace(SETTINGS, gradient_accumulation=n_parts))
    assert largest_gap(whole, split) < 2e-5  # float32 sums in another order, and AdamW divides by small numbers


def test_the_teacher_of_itself_is_at_loss_0(tmp_path: Path) -> None:
    twin = student(seed=1)
    losses = run(
        twin, tmp_path, teacher=tiny.model("llama", seed=1), terms=replace(TERMS, hard_weight=0.0),
        settings=replace(SETTINGS, lr=1e-12, weight_decay=0.0),
    )  # fmt: skip
    assert len(losses) == 2  # 24 steps, a mean over every 10
    assert max(map(abs, losses)) < 1e-5


def losses_by_step() -> tuple[list[float], Watch]:
    """The loss of every step, once a run has told it."""
    told: list[float] = []

    def note(done: int, total: int, loss: float | None) -> None:
        if loss is not None:
            told.append(loss)

    return told, Watch(on_step=note)


class KilledError(Exception):
    """Stands for a signal that leaves the loop no time."""


def killed_at(tokens: int) -> Watch:
    def stop(done: int, total: int, loss: float | None) -> None:
        if done >= tokens:
            raise KilledError

    return Watch(on_step=stop)


@pytest.mark.parametrize("share", [0.3, 0.55, 1.0])
def test_a_killed_run_ends_with_the_same_weights(share: float, tmp_path: Path) -> None:
    """GPT-2 with its dropout, so that the state of the random numbers counts too."""
    plan = plan_of(some_examples(), epochs=3)
    whole, again = student("gpt2"), student("gpt2")
    teacher = tiny.model("gpt2", seed=1)
    expected = run(whole, tmp_path / "whole", teacher=teacher, plan=plan)
    with pytest.raises(KilledError):
        run(again, tmp_path / "again", teacher=teacher, plan=plan, watch=killed_at(int(share * plan.n_tokens)))
    assert newest_checkpoint(tmp_path / "again") is not None
    continued = student("gpt2", seed=9)  # every weight must come from the checkpoint
    losses = run(continued, tmp_path / "again", teacher=teacher, plan=plan)
    assert losses == expected
    assert largest_gap(whole, continued) == 0


def test_a_checkpoint_that_was_not_written_to_its_end_is_passed_over(tmp_path: Path) -> None:
    run(student(), tmp_path, teacher=tiny.model("llama", seed=1))
    last = newest_checkpoint(tmp_path)
    assert last is not None
    (last / "sha256.json").unlink()  # the last file that is written
    earlier = newest_checkpoint(tmp_path)
    assert earlier is not None
    assert int(earlier.name.partition("-")[2]) < int(last.name.partition("-")[2])


def test_checkpoints_hold_what_is_trained_once(tmp_path: Path) -> None:
    trained = student("gpt2")  # its head is tied to its embeddings
    run(trained, tmp_path, teacher=tiny.model("gpt2", seed=1))
    last = newest_checkpoint(tmp_path)
    assert last is not None
    stored = load_file(last / "model.safetensors")
    assert {f"student.{name}" for name, _ in trained.named_parameters()} == stored.keys()
    assert sorted(path.name for path in last.iterdir() if path.suffix == ".bin") == []


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    broken = student()
    plan = plan_of(some_examples(), epochs=3)
    n_steps = len(plan.steps)

    def poison(done: int, total: int, loss: float | None) -> None:
        if done >= 0.6 * total:
            with torch.no_grad():
                next(broken.parameters()).fill_(math.nan)

    with pytest.raises(
        ModelError, match=r"the loss is nan at step \d+: training stopped; the weights after step"
    ) as caught:
        run(broken, tmp_path, terms=HARD, plan=plan, watch=Watch(on_step=poison))
    last = newest_checkpoint(tmp_path)
    assert last is not None
    assert str(last) in str(caught.value)
    assert 0 < int(last.name.partition("-")[2]) < n_steps
    assert all(torch.isfinite(weight).all() for weight in load_file(last / "model.safetensors").values())


def test_memory_that_runs_out_is_said_with_the_way_out_and_fewer_examples_at_once_continue(tmp_path: Path) -> None:
    plan = plan_of(some_examples(), epochs=3)
    whole = student()
    run(whole, tmp_path / "whole", terms=HARD, plan=plan)

    def run_out(done: int, total: int, loss: float | None) -> None:
        if done > 0.6 * total:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ModelError, match="memory ran out while training") as caught:
        run(student(), tmp_path / "again", terms=HARD, plan=plan, watch=Watch(on_step=run_out))
    assert "--gradient-accumulation" in caught.value.hint
    split = plan_of(some_examples(), epochs=3, n_parts=4)
    continued = student(seed=9)
    settings = replace(SETTINGS, gradient_accumulation=4)
    run(continued, tmp_path / "again", terms=HARD, plan=split, settings=settings)
    assert largest_gap(whole, continued) < 2e-5


def test_a_gradient_that_is_no_number_stops_before_it_reaches_a_weight(tmp_path: Path) -> None:
    broken = student()
    next(broken.parameters()).register_hook(lambda grad: grad * math.inf)
    with pytest.raises(ModelError, match=r"the gradient is (inf|nan) at step 1: training stopped"):
        run(broken, tmp_path, terms=HARD)
    assert largest_gap(broken, student()) == 0


def test_every_epoch_is_told_once_also_after_a_kill(tmp_path: Path) -> None:
    plan = plan_of(some_examples(), epochs=3)
    told: list[float] = []
    keeping = replace(SETTINGS, copies_per_epoch=1)

    def stop(done: int, total: int, loss: float | None) -> None:
        if 0.5 * total <= done and not told[1:]:
            raise KilledError

    with pytest.raises(KilledError):
        run(student(), tmp_path, terms=HARD, plan=plan, settings=keeping, watch=Watch(stop, told.append))
    run(student(), tmp_path, terms=HARD, plan=plan, settings=keeping, watch=Watch(on_copy=told.append))
    assert told[0] == 1
    assert told[-2:] == [2, 3]


def test_copies_are_evenly_spaced_in_every_epoch_and_fewer_where_it_has_fewer_steps() -> None:
    step = [[[0]]]
    assert Curriculum((step * 8, step * 8), (1,)).copies(4) == {
        2: 0.25, 4: 0.5, 6: 0.75, 8: 1.0, 10: 1.25, 12: 1.5, 14: 1.75, 16: 2.0,
    }  # fmt: skip
    assert Curriculum((step * 2, step * 3), (1,)).copies(4) == {1: 0.5, 2: 1.0, 3: 1.25, 4: 1.75, 5: 2.0}
    assert Curriculum((step * 8,), (1,)).copies(0) == {}


def test_hidden_states_are_drawn_to_the_teachers_through_the_projection(tmp_path: Path) -> None:
    teacher = tiny.model("llama", seed=1)
    terms = replace(TERMS, hard_weight=1.0, hidden_weight=5.0)
    gaps = []
    for weight in (0.0, 5.0):
        trained, projection = student(), torch.nn.Linear(32, 32, bias=False)
        torch.nn.init.eye_(projection.weight)
        before = copy.deepcopy(projection)
        run(
            trained, tmp_path / str(weight), teacher=teacher, terms=replace(terms, hidden_weight=weight),
            projection=projection, plan=plan_of(some_examples(), epochs=4),
            settings=replace(SETTINGS, weight_decay=0.0),
        )  # fmt: skip
        assert (largest_gap(before, projection) > 1e-3) is (weight > 0)
        ids = torch.from_numpy(some_examples()[0].ids[None].astype("int64"))
        with torch.no_grad():
            own, taught = (
                model(ids, output_hidden_states=True).hidden_states[-1] for model in (trained.eval(), teacher)
            )
            gaps.append(float((projection(own) - taught).square().mean()))
    assert gaps[1] < 0.8 * gaps[0]


@pytest.mark.parametrize(
    ("n_student", "n_teacher", "matched"), [(2, 4, [1, 3]), (3, 3, [0, 1, 2]), (1, 6, [5]), (4, 2, [0, 0, 1, 1])]
)
def test_layers_are_matched_over_the_whole_depth(n_student: int, n_teacher: int, matched: list[int]) -> None:
    assert matched_layers(n_student, n_teacher) == matched


def test_sequences_of_the_students_own_have_no_ground_truth(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def rewrite(examples: list[Example], step: int, part: int) -> list[Example] | None:
        seen.append((step, part))
        return [replace(example, n_given=3) for example in examples] if step % 2 else None

    settings = replace(SETTINGS, lr=1e-12, gradient_accumulation=2)
    mixed, watch = losses_by_step()
    run(
        student(seed=1), tmp_path, teacher=tiny.model("llama", seed=1), terms=replace(TERMS, hard_weight=1.0),
        settings=settings, rewrite=rewrite, watch=watch,
    )  # fmt: skip
    assert {part for _, part in seen} == {0, 1}
    assert [step for step, part in seen if part == 0] == sorted({step for step, _ in seen})
    # with all weight on the ground truth, every second step has none: only the teacher's divergence from itself, 0
    alone, watch = losses_by_step()
    run(student(seed=1), tmp_path / "hard", terms=HARD, settings=settings, watch=watch)
    assert len(mixed) == len(alone) == 23  # of 24 steps: the loss of a step is told with the next one
    assert mixed[1::2] == pytest.approx([0] * 11, abs=1e-5)
    assert mixed[::2] == pytest.approx(alone[::2], rel=1e-5)
