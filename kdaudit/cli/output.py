"""What a user sees: stdout carries the result, stderr the rest."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer.rich_utils
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from kdaudit.report.text import visible

if TYPE_CHECKING:
    from kdaudit.attacks.base import Attack
    from kdaudit.audit.data import AuditData
    from kdaudit.audit.plan import Plan
    from kdaudit.distill.prepare import Prepared
    from kdaudit.mitigate.base import Method
    from kdaudit.mitigate.run import Plan as MitigationPlan
    from kdaudit.report.content import Report
    from kdaudit.results import AuditResult
    from kdaudit.results.mitigation import Mitigation

STATUS_STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow", "not_gated": "bold"}
PLAIN_WIDTH = 160  # columns where stdout is no terminal
MAX_LINE = 10_000  # characters of a line: a name can be as long as its author liked


def note(message: str) -> None:
    """One line on stderr."""
    _print(escape(message), is_result=False)


def problem(message: str, hint: str = "") -> None:
    """What went wrong, and what to do about it, on stderr."""
    _print(f"[red]error:[/red] {escape(message)}", is_result=False)
    if hint:
        note(hint)


def usage_problem(error: Any) -> None:
    """What typer says of a wrong command line, on stderr; the values in it are the user's."""
    if getattr(error, "message", None):
        error.message = visible(error.message)
    typer.rich_utils.rich_format_error(error)


def command(line: str) -> None:
    """One line for the program that runs this one, unwrapped, on stdout."""
    _write(f"{line}\n", sys.stdout)


def heading(text: str) -> None:
    """One bold line on stdout."""
    _print(f"\n[bold]{escape(text)}[/bold]")


def print_attacks(attacks: Mapping[str, Attack], groups: Mapping[str, Sequence[str]]) -> None:
    """The table of `--list-attacks`."""
    table = Table(box=None, pad_edge=False)
    for heading in ("attack", "groups", "needs", "cost", "score (larger: more likely a member)", "source"):
        table.add_column(heading, overflow="fold")
    for name, attack in attacks.items():
        passes = attack.n_passes
        needs = ["target"] + (["reference"] if attack.needs_reference else [])
        needs += ["same tokenizer"] if attack.needs_same_tokenizer else []
        cost = f"{passes} pass{'es' if passes > 1 else ''}" + (
            " + 1 of the reference" if attack.needs_reference else ""
        )
        member_of = ", ".join(group for group, names in groups.items() if name in names)
        table.add_row(name, member_of, ", ".join(needs), cost, attack.summary, attack.source)
    _print(table)
    _print("\nOne forward pass feeds every attack that lives on it: passes are shared, not added up.")


def print_topics(titles: Mapping[str, str]) -> None:
    """The pages of `kdaudit docs`."""
    _print_table("Pages", ["topic", "what it is about"], [[name, title] for name, title in titles.items()])
    _print("\nkdaudit docs TOPIC prints one of them.")


def print_page(text: str) -> None:
    """One page: laid out on a terminal, else as the Markdown that it is."""
    from rich.markdown import Markdown  # only here, and slow

    _print(Markdown(text) if sys.stdout.isatty() else Text(text.rstrip("\n")))


def print_plan(plan: Plan, data: AuditData) -> None:
    """What will run, before any weights are loaded."""
    _print(
        f"[bold]Plan[/bold]: {len(data.members)} members, {len(data.nonmembers)} non-members, {len(data.shots)} shots; "
        f"{len(plan.passes)} forward passes over them on {plan.device} in {plan.dtype}, one model in memory at a time",
        is_result=False,
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("  model", "checkpoint", "parameters", "view", "tokens", "memory"):
        table.add_column(heading, justify="right" if heading in {"parameters", "tokens", "memory"} else "left")
    for one in plan.passes:
        checkpoint = one.checkpoint
        name = escape(checkpoint.name) + (f" @ {checkpoint.revision[:12]}" if checkpoint.revision else "")
        name += f" ({checkpoint.load})" if checkpoint.load else ""
        table.add_row(
            f"  {one.label}", name, f"{checkpoint.n_parameters:,}", one.view.name, f"{one.n_tokens:,}",
            f"about {_megabytes(plan.memory_bytes(one))}",
        )  # fmt: skip
    _print(table, is_result=False)
    for attack in plan.attacks:
        obstacles = "; ".join(f"{name}: {reason}" for name, reason in attack.obstacles.items() if reason)
        where = ", ".join(attack.runs_on) or "nothing"
        why_not = f" [dim]({escape(obstacles)})[/dim]" if obstacles else ""
        _print(f"  {attack.attack.name} on {where}{why_not}", is_result=False)
    for warning in plan.warnings:
        _print(f"  [yellow]note:[/yellow] {escape(warning)}", is_result=False)


def print_distill_plan(prepared: Prepared) -> None:
    """What will be trained on what, before the first step."""
    models, plan, compute, config = prepared.models, prepared.plan, prepared.compute, prepared.config
    _print(
        f"[bold]Plan[/bold]: {len(prepared.assignment.trained):,} members, {len(prepared.assignment.held_out):,} held "
        f"out; {config.epochs} epochs, {len(plan.steps):,} steps, {plan.n_tokens:,} tokens on {compute.device} in "
        f"{compute.dtype}" + (f", {compute.n_processes} processes" if compute.n_processes > 1 else ""),
        is_result=False,
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("  model", "checkpoint", "parameters", "memory"):
        table.add_column(heading, justify="right" if heading in {"parameters", "memory"} else "left")
    needed = config.needs_teacher and config.teacher_cache is None
    trained = models.start.memory_bytes("float32") * (4 if config.lora is None else 1)  # with gradients and AdamW's two
    for name, checkpoint, memory in (
        ("teacher", models.teacher, models.teacher.memory_bytes(compute.dtype) if needed else None),
        ("student", models.start, trained),
    ):
        where = escape(checkpoint.name) + (f" ({checkpoint.load})" if checkpoint.load else "")
        shown = "not in memory while training" if memory is None else f"about {_megabytes(memory)} and activations"
        table.add_row(f"  {name}", where, f"{checkpoint.n_parameters:,}", shown)
    _print(table, is_result=False)
    for line in (*prepared.notes, *prepared.progress):
        _print(f"  [yellow]note:[/yellow] {escape(line)}", is_result=False)


def print_student(content: Mapping[str, Any], out: Path, *, is_quiet: bool) -> None:
    """What the student is worth on the held-out records, and how to audit it."""
    from kdaudit.report import wording  # numpy: not at the top, so --help stays light

    head, rows = wording.utility_table(content["utility"])
    _print_table(f"Held-out utility ({content['utility']['n_records']:,} records) with 95 % interval", head, rows)
    for line in wording.agreement_notes(content["utility"]):
        _print(escape(line))
    if not is_quiet:
        note(f"written: {out}; the key of its record ids: {content['data']['key_file']} (never publish it)")
        note(f"audit it: kdaudit attack --teacher {content['teacher']['name']} --student {out}")


def print_methods(methods: Mapping[str, Method]) -> None:
    """The table of `--list-methods`."""
    rows = [[name, method.summary, method.source] for name, method in methods.items()]
    _print_table("Methods", ["method", "what it changes", "source"], rows)


def print_mitigation_plan(plan: MitigationPlan) -> None:
    """What will be distilled and how long it may take, before anything long."""
    waiting = [job for job in plan.jobs if not job.is_finished]
    expected = "" if plan.seconds is None else f", about {_duration(plan.seconds)} from a timed step"
    _print(
        f"[bold]Plan[/bold]: {len(plan.jobs)} students, {len(waiting)} of them still to be distilled{expected}; "
        f"{plan.n_members:,} members, {plan.n_held_out:,} held out",
        is_result=False,
    )
    is_vulnerable = plan.groups.is_vulnerable
    over = "all members together"
    if is_vulnerable is not None:
        n_vulnerable = int(is_vulnerable.sum())
        over = (
            f"the {n_vulnerable:,} members that the teacher gives away and the {plan.n_members - n_vulnerable:,} others"
        )
    _print(
        escape(f"  findings rest on the AUC of {plan.attack}, settled before any arm is trained, over {over}"),
        is_result=False,
    )
    arms = dict.fromkeys(job.arm for job in plan.jobs)
    for arm in arms:
        jobs = [job for job in plan.jobs if job.arm == arm]
        told = (
            f"  {arm}: {len(jobs)} {'seeds' if len(jobs) > 1 else 'seed'}, {sum(job.n_tokens for job in jobs):,} tokens"
        )
        if jobs[0].left_out:
            told += f", {len(jobs[0].left_out):,} members left out"
        if arm in plan.operations:
            told += f", {plan.operations[arm].n_replaced} modules replaced"
        _print(escape(told), is_result=False)
    for operation in plan.operations.values():
        for warning in operation.warnings:
            _print(f"  [yellow]note:[/yellow] {escape(warning)}", is_result=False)


def print_mitigation(table: Mitigation, files: Sequence[Path], *, notes: Sequence[str] = ()) -> None:
    """Arms, gates and findings on stdout; the files on stderr."""
    from kdaudit.report import arms  # numpy: not at the top, so --help stays light
    from kdaudit.report.sketch import sketch

    for shown in (arms.arms_table(table), arms.gates_table(table)):
        if shown is not None:
            _print_table(shown.title, shown.head, shown.rows)
            _print(f"[dim]{escape(shown.note)}[/dim]")
    _print("")
    for line in sketch(table):
        _print(escape(line))
    _print("")
    for line in arms.notes(table):
        _print(f"  {escape(line)}")
    _print("")
    for line in arms.sentences(table):
        _print(escape(line))
    for line in notes:
        _print(f"[dim]{escape(line)}[/dim]")
    note(f"written: {', '.join(map(str, files))}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_result(result: AuditResult, out: Path, *, is_quiet: bool, gates_note: str = "") -> None:
    """Tables, validity, gates and the verdict on stdout; the files on stderr."""
    from kdaudit.report import wording  # numpy: not at the top, so --help stays light

    for title, (head, rows) in wording.tables(result).items():
        _print_table(f"{title} with 95 % interval", head, rows)
    for line in wording.strongest_notes(result):
        _print(escape(f"{line[0].upper()}{line[1:]}"))
    for line in wording.missing(result):
        _print(f"[dim]–[/dim] {escape(line)}")
    _print("\n[bold]Validity[/bold]")
    for line in wording.validity_notes(result):
        _print(f"  {escape(line)}")
    for title, (head, rows) in wording.supervision_tables(result).items():
        _print_table(title, head, rows)
    for line in wording.supervision_notes(result):
        _print(f"[dim]{escape(line)}[/dim]")
    if result.verdict.gates:
        _print_gates(result)
    if gates_note:
        _print(f"[dim]{escape(gates_note)}[/dim]")
    _print_verdict(result)
    if not is_quiet:
        note(
            f"written: {out / 'results.json'}, {out / 'summary.md'}, {out / 'scores.parquet'}, {out / 'manifest.json'}"
        )


def print_verdicts(report: Report, files: Sequence[Path], *, gates_note: str = "") -> None:
    """Gates and verdict of every run on stdout; the files on stderr."""
    for run in report.runs:
        if len(report.runs) > 1:
            heading(run.name)
        if run.result.verdict.gates:
            _print_gates(run.result)
        _print_verdict(run.result)
    if gates_note:
        _print(f"[dim]{escape(gates_note)}[/dim]")
    note(f"written: {', '.join(map(str, files))}")


def print_json(out: Path) -> None:
    """results.json as it lies in the run folder."""
    _write((out / "results.json").read_text(encoding="utf-8"), sys.stdout)


def _print_gates(result: AuditResult) -> None:
    from kdaudit.report.text import plain

    rows = []
    for gate in result.verdict.gates:
        bound = "–" if gate.bound is None else f"{gate.bound_side} {gate.bound:.3f} at {gate.level:.4f}"
        rows.append([gate.gate, gate.status, gate.deciding_attack or "–", bound, plain(gate.reason)])
    _print_table("Gates", ["gate", "status", "decided by", "bound", "reason"], rows)


def _print_verdict(result: AuditResult) -> None:
    _print(f"\n[{STATUS_STYLES[result.verdict.status]}]{escape(result.verdict.sentence)}[/]")
    if result.verdict.next_step:
        _print(escape(result.verdict.next_step))


def _print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for heading in head:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    _print("")
    _print(table)


@dataclass(frozen=True)
class _Visible:
    """Anything that rich can show, with every control character in it written as its code point.

    Names of files, gates and keys are the user's, or those of whoever wrote a checkpoint: an escape sequence in one
    would reach the terminal. Here is the one place that everything printed passes, whatever put it together.
    """

    inner: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.inner, options):
            lines = (visible(line, limit=MAX_LINE) for line in segment.text.split("\n"))
            yield Segment("\n".join(lines), segment.style, segment.control)


def _uncommanding(text: str) -> str:
    """A runner of GitHub Actions takes a line that begins with :: or holds ##[ for a command: break both."""
    return re.sub(r"(?m)^(\s*):(?=:)", rf"\1{_code_point(':')}", text.replace("##[", f"#{_code_point('#')}["))


def _code_point(char: str) -> str:
    return f"⟨U+{ord(char):04X}⟩"


def _print(renderable: Any, *, is_result: bool = True) -> None:
    console = Console(stderr=not is_result, highlight=False, soft_wrap=not isinstance(renderable, Table))
    stream = sys.stdout if is_result else sys.stderr
    if not stream.isatty() and not os.environ.get("COLUMNS", "").strip("0").isdigit():
        console.width = PLAIN_WIDTH  # rich takes 80, also where FORCE_COLOR makes it believe in a terminal
    with console.capture() as captured:  # rich itself would exit with 1, a finding's code, on a closed pipe
        console.print(_Visible(console.render_str(renderable) if isinstance(renderable, str) else renderable))
    _write(_uncommanding(captured.get()), stream)


def _write(text: str, stream: TextIO) -> None:
    """Write it all; a reader such as `head` that has seen enough does not change the exit code."""
    try:
        stream.write(text.encode(stream.encoding or "utf-8", "replace").decode(stream.encoding or "utf-8"))
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _megabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
