"""Running an audit with a plan and progress on the terminal; loads torch."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

from kdaudit.artefacts import write_text
from kdaudit.audit.data import AuditData
from kdaudit.audit.folder import RunFolder
from kdaudit.audit.plan import Plan
from kdaudit.audit.run import run_audit
from kdaudit.cli import output
from kdaudit.cli.progress import StageBars
from kdaudit.config import AuditConfig
from kdaudit.report.render import render_summary
from kdaudit.report.text import visible
from kdaudit.results import AuditResult


def audit_with_progress(config: AuditConfig, *, command: str, is_quiet: bool) -> AuditResult:
    """Run the audit, show its plan and progress on stderr, and write the Markdown summary beside its results."""
    hush_libraries()
    with StageBars(is_shown=not is_quiet) as bars:

        def show_plan(plan: Plan, data: AuditData) -> None:
            if not is_quiet:
                output.print_plan(plan, data)

        try:
            return run_audit(
                config,
                command=command,
                on_plan=show_plan,
                on_progress=bars.update,
                on_result=lambda result: write_summary(result, config.out),
            )
        except KeyboardInterrupt:
            output.note(f"interrupted; the same command continues from what is in {config.out}")
            raise


def write_summary(result: AuditResult, out: Path) -> None:
    """Write the Markdown summary into the run folder."""
    write_text(RunFolder(out).summary, render_summary(result))


def hush_libraries() -> None:
    """Keep the libraries' own bars and advice off the terminal: what matters is said by kdaudit."""
    import datasets
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="bitsandbytes|peft|transformers")
    logging.captureWarnings(capture=True)
    of_libraries = [handler for name in logging.root.manager.loggerDict for handler in logging.getLogger(name).handlers]
    if logging.lastResort is not None:  # on stderr; of a warning's logger it takes the place of a handler for nothing
        logging.getLogger("py.warnings").addHandler(logging.lastResort)
        of_libraries.append(logging.lastResort)
    for handler in of_libraries:
        handler.addFilter(_in_sight)


def _in_sight(record: logging.LogRecord) -> bool:
    """A library logs what stands in foreign files: no control character in it reaches the terminal."""
    record.msg, record.args = "\n".join(map(visible, record.getMessage().split("\n"))), ()
    return True
