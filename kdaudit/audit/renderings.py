"""Chats as each model's own template writes them, over the same words of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from kdaudit.audit.data import AuditData, Rendering, speaker
from kdaudit.audit.lineage import Lineage
from kdaudit.audit.plan import Subject
from kdaudit.config import ASSISTANT, WHOLE, AuditConfig
from kdaudit.errors import ConfigError, RecordsError
from kdaudit.models.chat import chat_renderer
from kdaudit.models.loading import load_tokenizer
from kdaudit.records import Chat, Records, Render
from kdaudit.records.forms import TALK
from kdaudit.records.store import Writer
from kdaudit.records.turns import earlier_answers, words_of
from kdaudit.targets.script import script_from

SAME = "give --chat-template teacher, which shows every model the same text"
SHOWN_LINES = 5

Turns = list[tuple[str, str]]
"""What a template writes before the words of each answer, and these words."""


@dataclass(frozen=True, slots=True)
class _Voice:
    """A chat template, and the models that speak by it."""

    name: str
    """The name of the first of its models."""
    tokenizer: Any

    @property
    def state(self) -> tuple[Any, Any]:
        """Equal where two templates write the same: the template, and the special tokens that it names."""
        template = self.tokenizer.chat_template
        roles = self.tokenizer.special_tokens_map
        return template, {role: token for role, token in roles.items() if role in str(template)}


def show_each(data: AuditData, subjects: Sequence[Subject], config: AuditConfig, lineage: Lineage) -> AuditData:
    """Render the chats of an audit anew for models whose template writes them otherwise than they were read.

    Where templates differ, the words of answers alone are scored: what a template puts around them differs too. A
    reference is shown what its model is shown.

    Args:
        data: as read by the template that `speaker` chose.
        subjects: the models.
        config: says whose template counts.
        lineage: a student that was distilled on these chats was shown them as its teacher's template writes them.

    Returns:
        The data, with renderings where there are several.

    Raises:
        ConfigError: one checkpoint is the reference of models with different templates, or all of a chat is scored.
        RecordsError: a template refuses a chat, or does not show the answer as the others do.
    """
    if TALK not in {*data.records.column("form")} or config.chat_template != "own":
        return data
    if lineage.sets is not None or any(one.checkpoint.kind != "causal" for one in subjects):
        return data
    first = _Voice("", speaker(config, lineage))
    voices: dict[str, _Voice] = {}
    notes: list[str] = []
    for subject in subjects:
        if subject.checkpoint.is_recorded:
            continue
        own = _Voice(subject.name, load_tokenizer(subject.checkpoint))
        if not own.tokenizer.chat_template:
            notes.append(f"{subject.name} has no chat template: it is shown the chats as another model's writes them")
        elif own.state != first.state:
            same = next((one for one in voices.values() if one.state == own.state), own)
            voices[subject.name] = same
    data = replace(data, notes=(*data.notes, *notes))
    if not voices:
        return data
    if config.score == WHOLE:
        raise ConfigError(
            f"--score all: {', '.join(voices)} would be shown other words than the first model, whose chat template "
            "differs",
            hint=SAME,
        )
    names = ", ".join(voices)
    said = f"chats are shown to {names} as its own template writes them; the words of the answers alone are scored"
    score = config.score or ASSISTANT
    texts, renderings = _rendered(data, first, {one.name: one for one in voices.values()}, lineage.chat_date, score)
    n_members = len(data.members)
    return replace(
        data,
        members=texts[:n_members],
        nonmembers=texts[n_members:],
        renderings=_by_checkpoint(subjects, {name: renderings[one.name] for name, one in voices.items()}),
        notes=(*data.notes, said),
    )


def _by_checkpoint(subjects: Sequence[Subject], rendering_of: Mapping[str, Rendering]) -> dict[str, Rendering]:
    found: dict[str, Rendering | None] = {}
    for subject in subjects:
        for checkpoint in (subject.checkpoint, subject.reference):
            if checkpoint is None:
                continue
            own = rendering_of.get(subject.name)
            if found.setdefault(checkpoint.fingerprint, own) is not own:
                raise ConfigError(
                    f"{checkpoint.name} is a reference of models with different chat templates",
                    hint=f"give each model a reference of its own, or {SAME.removeprefix('give ')}",
                )
    return {fingerprint: own for fingerprint, own in found.items() if own is not None}


def _rendered(
    data: AuditData, first: _Voice, others: Mapping[str, _Voice], today: str, score: str
) -> tuple[Records, dict[str, Rendering]]:
    """The records up to the end of their answers' words, and the contexts and shots of every further template."""
    made = Writer()
    contexts: dict[str, list[tuple[str, ...]]] = {name: [] for name in others}
    shots: dict[str, tuple[str, ...]] = {}
    broken: dict[str, list[str]] = {}
    with ExitStack() as open_processes:

        def renderer(voice: _Voice) -> Render:
            return open_processes.enter_context(chat_renderer(lambda: voice.tokenizer, today=today))

        renders = {"": renderer(first), **{name: renderer(voice) for name, voice in others.items()}}
        for record in data.records:
            if record.chat is None:
                found = {name: [(record.text[: record.n_prompt], record.text[record.n_prompt :])] for name in renders}
            else:
                try:
                    found = _said_by_all(renders, record.chat, score)
                except ValueError as error:
                    broken.setdefault(str(error), []).append(record.place)
                    continue
            script = script_from(found[""])
            made.add(replace(record, text=script.text, n_prompt=script.n_prompt, gaps=script.gaps))
            for name in others:
                contexts[name].append(tuple(before for before, _ in found[name]))
        if broken:
            raise _refusal(broken)
        for name in others:
            shots[name] = tuple(
                one.text if one.chat is None else renders[name](one.chat)[1] for one in data.shot_records
            )
    return made.records(), {name: Rendering(name, tuple(contexts[name]), shots[name]) for name in others}


def _said_by_all(renders: Mapping[str, Callable[[Chat], tuple[str, str]]], chat: Chat, score: str) -> dict[str, Turns]:
    """By template: what stands before the words of each answer, and these, which are the same for all.

    Raises:
        ValueError: a template does not show them, or shows others.
    """
    found = {name: _said(render, chat, name, score) for name, render in renders.items()}
    if not _is_same(found.values()):
        found = {name: _stripped(turns) for name, turns in found.items()}
    if not _is_same(found.values()) or not all(words for _, words in found[""]):
        raise ValueError("the templates of the models write different words for the answer")
    return found


def _is_same(found: Iterable[Turns]) -> bool:
    return len({tuple(words for _, words in turns) for turns in found}) == 1


def _stripped(turns: Turns) -> Turns:
    """The same text, in which the white space at the ends of words belongs to what stands around them."""
    made, carried = [], ""
    for before, words in turns:
        left = words.lstrip()
        made.append((carried + before + words[: len(words) - len(left)], left.rstrip()))
        carried = words[len(words.rstrip()) :]
    return made


def _said(render: Render, chat: Chat, name: str, score: str = ASSISTANT) -> Turns:
    """What one template writes before the words of each answer that is scored, and these words."""
    owner = f"the chat template of {name}" if name else "the chat template"
    if chat.n_answer > 1 or chat.messages[-1].get("tool_calls"):
        raise ValueError("an answer of several messages or with tool calls is written differently by each template")
    last = len(chat.messages) - 1
    made: Turns = []
    end = 0
    try:
        before, whole = render(chat)
        for place in (*(earlier_answers(chat) if score == ASSISTANT else ()), last):
            start, after = words_of(render, chat, place, whole)
            if start < end:
                raise ValueError("does not show the answers in their order")
            made.append((whole[end:start], whole[start:after]))
            end = after
        if not whole[: end - len(made[-1][1])].startswith(before):
            raise ValueError("does not show the answer as it stands")
    except ValueError as error:
        raise ValueError(f"{owner} {error}") from error
    return made


def _refusal(broken: Mapping[str, Sequence[str]]) -> RecordsError:
    parts = []
    for what, places in broken.items():
        more = f" and {len(places) - SHOWN_LINES} more" if len(places) > SHOWN_LINES else ""
        parts.append(f"\n  {'lines' if len(places) > 1 else 'line'} {', '.join(places[:SHOWN_LINES])}{more}: {what}")
    return RecordsError(f"chats cannot be shown to each model by its own template{''.join(parts)}", hint=SAME)
