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
from rich.text import Text

from kdaudit.cli.layout import one_below_the_other, said_once, side_by_side, without_interval, wrap
from kdaudit.models.sizes import in_words
from kdaudit.ranks import ALONE, Rank
from kdaudit.report.blocks import Block, Detail, Notes, Paragraph, Section, Table, Verbatim, VerdictCard, shown
from kdaudit.report.text import counted, plain, visible

if TYPE_CHECKING:
    from kdaudit.attacks.base import Attack
    from kdaudit.audit.data import AuditData
    from kdaudit.audit.plan import Plan
    from kdaudit.distill.prepare import Prepared
    from kdaudit.mitigate.base import Method
    from kdaudit.mitigate.run import MitigationPlan
    from kdaudit.report.page import RunPage
    from kdaudit.report.reading import Report
    from kdaudit.results import AuditResult
    from kdaudit.results.mitigation import Mitigation

STATUS_STYLES = {
    "pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow", "waived": "bold yellow",
    "not_gated": "bold",
}  # fmt: skip
LEFT_OUT = "Other intervals need a wider terminal; the report has all of them."
ROOMY = 130
"""Columns from which every figure of an attack is shown with its interval."""
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
        error.message = visible(_refused_value(error) or error.message)
    typer.rich_utils.rich_format_error(error)


def _refused_value(error: Any) -> str:
    """What is wrong with a value where typer has it from pydantic, which does not say the value; "" elsewhere."""
    found = getattr(error.__context__, "errors", None)
    first = found()[0] if callable(found) else {}
    words = {"int": "a whole number", "float": "a number", "bool": "true or false"}
    kind = words.get(str(first.get("type")).partition("_")[0])
    return f"'{first['input']}' is not {kind}" if kind else ""


def command(line: str) -> None:
    """One line for the program that runs this one, unwrapped, on stdout."""
    _write(f"{line}\n", sys.stdout)


def heading(text: str, *, is_result: bool = True) -> None:
    """One bold line."""
    _print("", is_result=is_result)
    _say(text, style="bold", is_result=is_result)


def print_attacks(attacks: Mapping[str, Attack], groups: Mapping[str, Sequence[str]]) -> None:
    """The table of `--list-attacks`."""
    from kdaudit.attacks.settings import written  # numpy: not at the top, so --help stays light

    rows = []
    for name, attack in attacks.items():
        passes = attack.n_passes
        needs = ["target"] + (["reference"] if attack.needs_reference else [])
        needs += ["same tokenizer"] if attack.needs_same_tokenizer else []
        cost = f"{passes} pass{'es' if passes > 1 else ''}"
        cost += " + 1 of the reference" if attack.needs_reference else ""
        settable = "; ".join(f"{one.name}={written(one.default)}" for one in attack.parameters)
        settable = settable or ("(--n-shots)" if attack.needs_shots else "")
        member_of = ", ".join(group for group, names in groups.items() if name in names)
        rows.append((name, member_of, ", ".join(needs), cost, attack.described, settable, attack.source))
    head = ("attack", "groups", "needs", "cost", "score (larger: more likely a member)", "--set", "source")
    note = (
        "One forward pass feeds every attack that lives on it: passes are shared, not added up. A masked "
        "model takes one pass for each group of hidden words (--mask-plan): seven by default, and as many as a text "
        "has tokens under pll. An encoder-decoder takes one pass, and more for a text without a prompt, read in gaps."
    )
    show([Table("", head, rows, note)])


def print_topics(titles: Mapping[str, str]) -> None:
    """The pages of `kdaudit docs`."""
    note = "kdaudit docs TOPIC prints one of them."
    show([Table("Pages", ("topic", "what it is about"), [*titles.items()], note)])


def print_page(text: str) -> None:
    """One page of the documentation: laid out on a terminal, else as the Markdown that it is."""
    from rich.markdown import Markdown  # only here, and slow

    _print(Markdown(text) if sys.stdout.isatty() else Text(text.rstrip("\n")))


def print_plan(plan: Plan, data: AuditData, rank: Rank = ALONE, *, is_result: bool = False) -> None:
    """What will run, before any weights are loaded; on stdout where it is all that was asked for."""
    from kdaudit.attacks.settings import written  # numpy: not at the top, so --help stays light

    work = f"{counted(len(plan.passes), 'forward pass', 'forward passes')} over them"
    if plan.is_in_parts:
        work = f"{counted(len(plan.passes), 'view')} of them, {plan.n_passes:,} passes of a text in all,"
    title = (
        f"Plan: {len(data.members)} members, {len(data.nonmembers)} non-members, {len(data.shots)} shots; "
        f"{work} on {plan.placed} in {plan.dtype}, one model in memory at a time"
    )
    rows = []
    for one in plan.passes:
        checkpoint = one.checkpoint
        name = checkpoint.name + (f" @ {checkpoint.revision[:12]}" if checkpoint.revision else "")
        is_dequantised = checkpoint.fingerprint in plan.dequantised
        name += f" ({checkpoint.load}{', dequantised' if is_dequantised else ''})" if checkpoint.load else ""
        name += f" (GGUF, {checkpoint.dtype}, dequantised)" if checkpoint.is_gguf else ""
        memory = f"about {in_words(plan.memory_bytes(one))}"
        passes = (f"{one.n_passes:,}",) if plan.is_in_parts else ()
        read = (one.view.name, *passes, f"{one.n_tokens:,}", memory)
        rows.append((one.label, name, f"{checkpoint.n_parameters:,}", *read))
    alike: dict[str, list[str]] = {}
    for attack in plan.attacks:
        models: dict[str, list[str]] = {}
        for model, reason in attack.obstacles.items():
            if reason:
                models.setdefault(reason, []).append(model)
        obstacles = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in models.items())
        where = (", ".join(attack.runs_on) or "nothing") + (f" ({obstacles})" if obstacles else "")
        chosen = "; ".join(f"{name} {written(value)}" for name, value in attack.attack.settings.items())
        alike.setdefault(where, []).append(attack.attack.name + (f" with {chosen}" if chosen else ""))
    attacks = [f"{', '.join(called)} on {where}" for where, called in alike.items()]
    divided = _divided(plan, rank)
    notes = [*([plan.reading] if plan.reading else []), *plan.warnings]
    if not plan.keeps_signals:
        notes.append("the run folder keeps scores, not what models say of every token (--signals full keeps both)")
    head = ("model", "checkpoint", "parameters", "view", *(("passes",) if plan.is_in_parts else ()), "tokens", "memory")
    show(
        [
            Table(title, head, rows, right=(2, *range(4, len(head)))),
            *_devices(plan),
            Notes([*attacks, *divided]),
            *_warnings(notes),
        ],
        is_result=is_result,
    )


def _devices(plan: Plan) -> list[Block]:
    """Where the parts of each model lie, where they may lie on several devices."""
    rows = []
    named: dict[str, str] = {}
    for one in plan.passes:
        named.setdefault(one.checkpoint.fingerprint, one.label)
    for fingerprint, label in named.items():
        for share in plan.placements[fingerprint].shares if fingerprint in plan.placements else ():
            others = ", ".join(share.others) or "-"
            device = f"GPU {share.device}" if isinstance(share.device, int) else share.device
            limit = "no room" if share.limit is None else in_words(share.limit)
            sizes = (in_words(share.weights), in_words(share.peak), limit)
            fits = "yes" if share.limit is not None and share.peak <= share.limit else "no"
            rows.append((label, device, f"{share.n_layers:,}", others, *sizes, fits))
    if not rows:
        return []
    head = ("model", "device", "layers", "other parts", "weights", "expected peak", "may take", "fits")
    note = "The expected peak is the weights and the largest batch. GB are 10^9 bytes. A device without a row is empty."
    spilled = [(label, plan.placements[one].spilled) for one, label in named.items() if one in plan.placements]
    slow = [
        f"of {label}, {in_words(size)} lie on no GPU: every batch waits until they are copied to one"
        for label, size in spilled
        if size
    ]
    return [Table("Devices", head, rows, note, right=(2, 4, 5, 6)), *_warnings(slow)]


def _divided(plan: Plan, rank: Rank) -> list[str]:
    """How the work is divided, if it is."""
    n_shards = len(plan.passages.shards())
    each = len(plan.passes) if plan.keeps_signals else 1
    n_units = each * n_shards
    if rank.is_shard:
        own = each * sum(rank.takes(shard) for shard in range(n_shards))
        return [f"{rank}: {own:,} of {n_units:,} units of work are measured here, and nothing is judged"]
    if not rank.is_one_of_several:
        return []
    n_idle = max(0, rank.n - n_shards)
    idle = f"; {counted(n_idle, 'process has', 'processes have')} nothing to do, since the texts fill {n_shards}"
    return [f"{rank.n} processes divide {counted(n_units, 'unit')} of work" + (idle if n_idle else "")]


def print_distill_plan(prepared: Prepared) -> None:
    """What will be trained on what, before the first step."""
    models, plan, compute, config = prepared.models, prepared.plan, prepared.compute, prepared.config
    title = (
        f"Plan: {len(prepared.assignment.trained):,} members, {len(prepared.assignment.held_out):,} held out; "
        f"{counted(config.epochs, 'epoch')}, {counted(len(plan.steps), 'step')}, {plan.n_tokens:,} tokens on "
        f"{compute.device} in {compute.dtype}"
    ) + (f", {compute.n_processes} processes" if compute.n_processes > 1 else "")
    if models.frame.kind.varies:
        from kdaudit.targets.hiding import SHARE  # numpy: not at the top, so --help stays light

        title += f"; {SHARE:.0%} of the {'words' if config.whole_word else 'tokens'} of a text are hidden in each epoch"
    needed = config.needs_teacher and config.teacher_cache is None
    trained = models.start.memory_bytes("float32") * (4 if config.lora is None else 1)  # with gradients and AdamW's two
    rows = []
    for name, checkpoint, memory in (
        ("teacher", models.teacher, models.teacher.memory_bytes(compute.dtype) if needed else None),
        ("student", models.start, trained),
    ):
        where = checkpoint.name + (f" ({checkpoint.load})" if checkpoint.load else "")
        where += f" (GGUF, {checkpoint.dtype}, dequantised)" if checkpoint.is_gguf else ""
        held = "not in memory while training" if memory is None else f"about {in_words(memory)} and activations"
        rows.append((name, where, f"{checkpoint.n_parameters:,}", held))
    table = Table(title, ("model", "checkpoint", "parameters", "memory"), rows, right=(2, 3))
    show([table, *_warnings((*prepared.notes, *prepared.progress))], is_result=False)


def print_student(content: Mapping[str, Any], out: Path, *, is_quiet: bool) -> None:
    """What the student is worth on the held-out records, and how to audit it."""
    from kdaudit.report.provenance import student_utility  # numpy: not at the top, so --help stays light

    show([student_utility(content["utility"])])
    if not is_quiet:
        note(f"written: {out}; the key of its record ids: {content['data']['key_file']} (never publish it)")
        note(f"audit it: kdaudit attack --teacher {content['teacher']['name']} --student {out}")


def print_methods(methods: Mapping[str, Method]) -> None:
    """The table of `--list-methods`."""
    rows = [(name, method.summary, method.source) for name, method in methods.items()]
    show([Table("Methods", ("method", "what it changes", "source"), rows)])


def print_mitigation_plan(plan: MitigationPlan) -> None:
    """What will be distilled and how long it may take, before anything long."""
    waiting = [job for job in plan.jobs if not job.is_finished]
    expected = "" if plan.seconds is None else f", about {_duration(plan.seconds)} from a timed step"
    title = (
        f"Plan: {counted(len(plan.jobs), 'student')}, {len(waiting)} of them still to be distilled{expected}; "
        f"{plan.n_members:,} members, {plan.n_held_out:,} held out"
    )
    is_vulnerable = plan.groups.is_vulnerable
    over = "all members together"
    if is_vulnerable is not None:
        n_vulnerable = int(is_vulnerable.sum())
        over = (
            f"the {n_vulnerable:,} members that the teacher gives away and the {plan.n_members - n_vulnerable:,} others"
        )
    lines = [f"findings rest on the AUC of {plan.attack}, settled before any arm is trained, over {over}"]
    for arm in dict.fromkeys(job.arm for job in plan.jobs):
        jobs = [job for job in plan.jobs if job.arm == arm]
        told = f"{arm}: {counted(len(jobs), 'seed')}, {sum(job.n_tokens for job in jobs):,} tokens"
        if jobs[0].left_out:
            told += f", {counted(len(jobs[0].left_out), 'member')} left out"
        if arm in plan.operations:
            told += f", {counted(plan.operations[arm].n_replaced, 'module')} replaced"
        lines.append(told)
    warnings = [warning for operation in plan.operations.values() for warning in operation.warnings]
    show([Notes(lines, title), *_warnings(warnings)], is_result=False)


def _warnings(lines: Sequence[str]) -> list[Block]:
    return [Notes([f"note: {line}" for line in lines])] if lines else []


def print_mitigation(table: Mitigation, files: Sequence[Path], *, notes: Sequence[str] = ()) -> None:
    """The page of a comparison on stdout; the files on stderr."""
    from kdaudit.report.mitigation import mitigation_page  # numpy: not at the top, so --help stays light

    page = mitigation_page(table, with_pictures=False)
    show([*page.sections, page.short, *(Paragraph(line, "note") for line in notes)])
    note(f"written: {', '.join(map(str, files))}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_result(result: AuditResult, out: Path, *, is_quiet: bool, gates_note: str = "") -> None:
    """The page of an audit on stdout, the verdict last; the files on stderr."""
    from kdaudit.report.page import result_page  # numpy: not at the top, so --help stays light

    page = result_page(result)
    show([*page.sections, *_judged(page.runs[0], gates_note)])
    if not is_quiet:
        note(
            f"written: {out / 'results.json'}, {out / 'summary.md'}, {out / 'scores.parquet'}, "
            f"{out / 'likelihoods.parquet'}, {out / 'manifest.json'}"
        )


def print_verdicts(report: Report, files: Sequence[Path], *, gates_note: str = "") -> None:
    """Gates and verdict of every run on stdout; the files on stderr."""
    from kdaudit.report.page import report_page

    runs = report_page(report, with_pictures=False).runs
    for run in runs:
        if len(runs) > 1:
            heading(run.name)
        show(_judged(run, gates_note if run is runs[-1] else ""))
    note(f"written: {', '.join(map(str, files))}")


def _judged(run: RunPage, gates_note: str) -> list[Block]:
    """The gates, where they come from, and the verdict."""
    return [*([run.gates] if run.gates else []), *([Paragraph(gates_note, "note")] if gates_note else []), run.verdict]


def print_json(out: Path) -> None:
    """results.json as it lies in the run folder."""
    _write((out / "results.json").read_text(encoding="utf-8"), sys.stdout)


def show(blocks: Sequence[Block], *, is_result: bool = True) -> None:
    """Print what a terminal shows of a page, block by block."""
    for block in shown(blocks, Detail.TERMINAL):
        if isinstance(block, Section):
            heading(block.title, is_result=is_result)
            show(block.blocks, is_result=is_result)
        elif isinstance(block, Table):
            _print_table(block, is_result=is_result)
        elif isinstance(block, Paragraph):
            _say(block.text, style="dim" if block.tone == "note" else "", is_result=is_result)
        elif isinstance(block, Notes):
            if block.title:
                heading(block.title, is_result=is_result)
            for line in block.lines:
                _say(line, indent="" if block.tone == "key" else "  ", is_result=is_result)
        elif isinstance(block, Verbatim):
            _print("\n" + escape("\n".join(block.lines)), is_result=is_result)
        elif isinstance(block, VerdictCard):
            _print("", is_result=is_result)
            _say(block.sentence, style=STATUS_STYLES[block.tone], is_result=is_result)
            for line in (*block.plain, *block.cautions):
                _say(line, is_result=is_result)
            for step in block.steps:
                _say(step.words, is_result=is_result)
                if step.command:
                    _print(escape(f"  {step.command}"), is_result=is_result)


def _print_table(table: Table, *, is_result: bool) -> None:
    console = _console(is_result=is_result)
    is_narrow = console.width < ROOMY
    whole = [[plain(cell) for cell in row] for row in table.rows]
    rows = [
        [without_interval(cell) if is_narrow and table.whole and place not in table.whole else cell for cell in row]
        for place, row in enumerate(whole)
    ]
    left_out = LEFT_OUT if rows != whole else ""
    head = [plain(title) for title in table.head]
    rows = said_once(head, rows)
    is_terminal = (sys.stdout if is_result else sys.stderr).isatty()
    longest_name = max(8, console.width // 3) if is_terminal else MAX_LINE
    lines = side_by_side(head, rows, width=console.width, right=table.right, longest_name=longest_name)
    if table.title:
        heading(table.title, is_result=is_result)
    if lines is None:
        lines = one_below_the_other(head, rows, width=console.width if is_terminal else MAX_LINE)
    for line in lines:
        styles = [STATUS_STYLES.get(one.text.strip()) if one.column == table.status else None for one in line]
        pieces = [escape(one.text) for one in line]
        pieces[-1] = pieces[-1].rstrip()
        told = (f"[{style}]{text}[/]" if style else text for text, style in zip(pieces, styles, strict=True))
        _print("".join(told), is_result=is_result)
    if note_below := " ".join(filter(None, (table.note, left_out))):
        _say(note_below, style="dim", is_result=is_result)


def _say(text: str, *, style: str = "", indent: str = "", is_result: bool) -> None:
    """A statement; on a terminal in lines that break no figure, else in one."""
    lines = [f"{indent}{text}"]
    if (sys.stdout if is_result else sys.stderr).isatty():
        width = _console(is_result=is_result).width - len(indent)
        lines = [f"{indent}{line}" for line in wrap(text, width, is_cut=False)]
    for line in lines:
        _print(f"[{style}]{escape(line)}[/]" if style else escape(line), is_result=is_result)


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


def _console(*, is_result: bool, soft_wrap: bool = False) -> Console:
    console = Console(stderr=not is_result, highlight=False, soft_wrap=soft_wrap)
    stream = sys.stdout if is_result else sys.stderr
    if not stream.isatty() and not os.environ.get("COLUMNS", "").strip("0").isdigit():
        console.width = PLAIN_WIDTH  # rich takes 80, also where FORCE_COLOR makes it believe in a terminal
    return console


def _print(renderable: Any, *, is_result: bool = True) -> None:
    console = _console(is_result=is_result, soft_wrap=True)
    stream = sys.stdout if is_result else sys.stderr
    with console.capture() as captured:  # rich itself would exit with 1, a finding's code, on a closed pipe
        console.print(_Visible(console.render_str(renderable) if isinstance(renderable, str) else renderable))
    _write(_uncommanding(captured.get()), stream)


def leave_pipe(stream: TextIO | None = None) -> None:
    """Let what is still written to a closed pipe, stdout without a stream, go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), (stream or sys.stdout).fileno())


def _write(text: str, stream: TextIO) -> None:
    """Write it all; a reader such as `head` that has seen enough does not change the exit code."""
    try:
        stream.write(text.encode(stream.encoding or "utf-8", "replace").decode(stream.encoding or "utf-8"))
        stream.flush()
    except BrokenPipeError:
        leave_pipe(stream)
