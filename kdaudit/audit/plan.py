"""What will run on which model, settled and shown before any weights are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from kdaudit.attacks import ATTACKS, expand
from kdaudit.attacks.base import Attack
from kdaudit.audit.data import AuditData, Rendering
from kdaudit.config import FULL, LOADS, AuditConfig, option_of
from kdaudit.errors import CheckpointError, ConfigError, RecordsError
from kdaudit.models.checkpoint import Checkpoint, find
from kdaudit.models.context import scoring_batch_tokens, shared_window
from kdaudit.models.devices import Placement, Spread, computes_on, room_for_whole, settle_spread
from kdaudit.models.headers import is_dequantised
from kdaudit.models.kinds import WORDS, same_kind
from kdaudit.models.kinship import holds_same_tensors
from kdaudit.models.loading import check_attention, choose_device, choose_dtype, load_tokenizer, placed, why_not
from kdaudit.models.sizes import in_words
from kdaudit.records import texts_of
from kdaudit.records.sets import fingerprints
from kdaudit.targets.frames import check_answers, frame_of, hides_words
from kdaudit.targets.masked import DEFAULT_GROUPS, DEFAULT_PLAN, Masking
from kdaudit.targets.passage import lead_text
from kdaudit.targets.plan import Frame
from kdaudit.targets.script import TWICE, Scripts, without_lead
from kdaudit.targets.tokenizers import check_known, described, ignores_case
from kdaudit.views.build import Passages, build
from kdaudit.views.view import PLAIN, View

ALONE: Mapping[str, Attack] = {
    name: attack for name, attack in ATTACKS.items() if attack.views == (PLAIN,) and not attack.needs_reference
}
"""The attacks that need no more of a model than its plain pass: those that a start (a reference) is attacked by too."""
PAPER_SETTINGS: Mapping[str, Mapping[str, float]] = {"min-k": {"fraction": 0.9}, "min-k++": {"fraction": 0.1}}
"""What arXiv:2505.11837 uses, for --paper-compat only, whatever --set says of the audit's own figures."""
HEAD_ELEMENTS = 2**26
"""Tokens x vocabulary that exist at one time on an accelerator, in the dtype of the run and three times in float32."""
FROM_HEADERS = (
    "planned from the headers of the weight files: whether one checkpoint is a copy of another one, and whether "
    "weights are those that a manifest describes, is checked when the audit runs"
)
SMALLER = "lower --batch-tokens, load it in 4bit, or give more devices or more of their memory (--max-memory)"
MANY = 200_000
"""Records from which the run folder keeps scores alone, unless --signals says otherwise."""
MOST_UNKNOWN = 0.5
"""A larger share of unknown tokens leaves nothing to audit."""


@dataclass(frozen=True, slots=True)
class Subject:
    """An audited model and the checkpoint that it started from, if one was given."""

    name: str
    """teacher, student, student-2, or model where one is audited alone."""
    checkpoint: Checkpoint
    reference: Checkpoint | None


@dataclass(frozen=True, slots=True)
class AttackPlan:
    """One attack and, per audited model, why it cannot run there ("" where it can)."""

    attack: Attack
    is_requested: bool
    obstacles: Mapping[str, str]

    @property
    def runs_on(self) -> tuple[str, ...]:
        """The audited models that the attack runs on."""
        return tuple(name for name, obstacle in self.obstacles.items() if not obstacle)


@dataclass(frozen=True, slots=True)
class Pass:
    """One checkpoint over all records in one view."""

    label: str
    """The model's part in the audit: teacher, student, student-reference."""
    checkpoint: Checkpoint
    view: View
    tokenizer: int
    """Index into the audit's tokenizers."""
    n_tokens: int
    """Tokens that go through the model, all that stands around the texts included."""
    n_passes: int
    """Readings of a text: one for each text of a view, or as many as the words of the text are hidden in."""
    longest: int
    """Tokens of the longest of them, which are read at once however small the batch is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is settled before the first weight is read."""

    subjects: tuple[Subject, ...]
    attacks: tuple[AttackPlan, ...]
    passes: tuple[Pass, ...]
    passages: Passages
    tokenizer_of: Mapping[str, int]
    """Checkpoint fingerprint -> index into the audit's tokenizers."""
    device: str
    dtype: str
    batch_tokens: int
    warnings: tuple[str, ...]
    masking: Masking | None = None
    """What is hidden from masked models, and from encoders that read no prompts."""
    dequantised: frozenset[str] = frozenset()
    """Fingerprints of the checkpoints whose packed weights compute as whole ones on this device."""
    attention: str | None = None
    """How it is computed; None: as transformers decides."""
    spread: Spread | None = None
    """How each model lies on several devices, if it does."""
    placements: Mapping[str, Placement] = field(default_factory=dict)
    """By fingerprint, where the parts of a model lie."""
    not_held: Mapping[str, str] = field(default_factory=dict)
    """By fingerprint, why a model cannot lie so: such a plan can be shown and not run."""
    compared: Mapping[str, str] = field(default_factory=dict)
    """By fingerprint of models on several devices: the device on which they are run whole once, to compare."""
    keeps_signals: bool = True
    """Whether the signals of every token stay in the run folder, or the scores alone."""

    @property
    def placed(self) -> str:
        """The device, and how models lie on several, as results and plans say it."""
        return self.device if self.spread is None else f"{self.device} (--device-map {self.spread.way})"

    @property
    def alone(self) -> dict[str, Attack]:
        """The attacks that a start (a reference) is attacked by, with the parameters that they have in the audit."""
        own = {one.attack.name: one.attack for one in self.attacks}
        return {name: own.get(name, attack) for name, attack in ALONE.items()}

    @property
    def as_in_paper(self) -> dict[str, Attack]:
        """The attacks whose parameters are not the paper's, with the paper's."""
        own = {one.attack.name: one.attack for one in self.attacks}
        found = {name: ATTACKS[name].tuned(PAPER_SETTINGS.get(name, {})) for name in own}
        return {name: attack for name, attack in found.items() if attack.settings != own[name].settings}

    @property
    def n_passes(self) -> int:
        """Readings of a text over all models and views."""
        return sum(one.n_passes for one in self.passes)

    def n_passes_of(self, checkpoint: Checkpoint) -> int:
        """Readings of a text by one model over all views."""
        return sum(one.n_passes for one in self.passes if one.checkpoint.fingerprint == checkpoint.fingerprint)

    @property
    def reading(self) -> str:
        """The mask plan in a sentence; "" where nothing is hidden."""
        if self.masking is None:
            return ""
        n_texts, counts = len(self.passages.scripts), _span([one.n_passes for one in self.passages.shown[PLAIN]])
        return f"mask plan {self.masking.told}; each model reads the {n_texts:,} texts in {counts} passes"

    @property
    def is_in_parts(self) -> bool:
        """Whether a text is read more often than once in a view, since its words are hidden in turn."""
        return any(one.n_passes > len(self.passages.scripts) * one.view.n_variants for one in self.passes)

    def is_same_tokenizer(self, subject: Subject) -> bool:
        """Whether a model and its reference split these texts alike; true where it has none."""
        return _is_same_tokenizer(subject, self.passages, self.tokenizer_of)

    def memory_bytes(self, one: Pass) -> float:
        """Expected peak of one pass, from the weights and the states of the largest batch; a rough figure."""
        fingerprint = one.checkpoint.fingerprint
        if fingerprint in self.placements:
            return sum(share.peak for share in self.placements[fingerprint].shares)
        weights = one.checkpoint.memory_bytes(self.dtype, is_dequantised=fingerprint in self.dequantised)
        return weights + _states_bytes(one, self.batch_tokens, self.device, self.dtype)


def _states_bytes(one: Pass, batch_tokens: int, device: str, dtype: str) -> int:
    """Expected bytes of the largest batch of a pass, beside the weights."""
    width = {"float32": 4, "bfloat16": 2, "float16": 2}[dtype]
    largest_batch = max(one.longest, min(batch_tokens, one.n_tokens))
    states = largest_batch * one.checkpoint.hidden_size * width * 16
    if not device.startswith("cuda"):
        return states + 3 * 2**24
    logits = min(HEAD_ELEMENTS, largest_batch * max(1, one.checkpoint.vocab_size))
    return states + logits * (width + 3 * 4)


def find_subjects(
    config: AuditConfig,
    loads: Mapping[str, str] = MappingProxyType({}),
    *,
    recorded: Subject | None = None,
    is_hashed: bool = True,
) -> tuple[Subject, ...]:
    """Find every checkpoint of the audit.

    Args:
        config: names them.
        recorded: the teacher, where it is known from an earlier run.
        loads: by model, how its manifest says that it computes; what `config` says comes first.
        is_hashed: whether weights are read; else copies are not found.

    Raises:
        CheckpointError: one is not a checkpoint, two of the models are the same, or they are of several kinds.
    """
    options: dict[str, Any] = {"allow_pickle": config.allow_pickle, "trust_remote_code": config.trust_remote_code}
    options |= {"kind": config.kind, "is_hashed": is_hashed}
    audited = config.audited
    targets = [
        recorded.checkpoint
        if recorded is not None and one.name == recorded.name
        else find(one.checkpoint, option=one.option, load=one.load or loads.get(one.name), base=one.base, **options)
        for one in audited
    ]
    subjects = []
    for one, target in zip(audited, targets, strict=True):
        alike = (k for k, other in enumerate(targets) if _is_same(other, target, reads=is_hashed))
        twin = audited[next(alike)].name
        if twin != one.name:
            raise CheckpointError(
                f"{one.option}: {target.name} ({one.name}) is the same checkpoint as the {twin.replace('-', ' ')}",
                hint="compare different weights, or the same ones loaded differently (--student-load)",
            )
        if recorded is not None and one.name == recorded.name:
            subjects.append(recorded)
            continue
        option = f"{one.option}-reference (or --reference)"
        load = target.load if target.stored is None else None
        reference = find(one.reference, option=option, load=load, **options) if one.reference else None
        subjects.append(Subject(one.name, target, reference))
    same_kind([(label, one.name, one.kind) for label, one in _labelled(subjects)])
    return tuple(subjects)


def _labelled(subjects: Sequence[Subject]) -> list[tuple[str, Checkpoint]]:
    """Every checkpoint with its part in the audit, the audited models first."""
    references = [(f"reference of the {one.name}", one.reference) for one in subjects if one.reference is not None]
    return [*((one.name, one.checkpoint) for one in subjects), *references]


def _is_same(one: Checkpoint, other: Checkpoint, *, reads: bool) -> bool:
    """Whether two checkpoints compute the same, however they were saved; equal files may be configured otherwise."""
    if one.weights_sha256 == other.weights_sha256 or one.load != other.load or not reads:
        return one.fingerprint == other.fingerprint
    return holds_same_tensors(one, other, exactly=True)


def make_plan(
    config: AuditConfig,
    subjects: tuple[Subject, ...],
    data: AuditData,
    *,
    notes: Sequence[str] = (),
    splits: Mapping[str, str] = MappingProxyType({}),
    only_plan: bool = False,
) -> Plan:
    """Settle tokenizers, cuts, attacks and passes.

    Args:
        config: says which attacks run.
        subjects: the models.
        data: the records.
        notes: what else is to stand among the warnings.
        splits: by the fingerprint of a recorded checkpoint, how its tokenizer split the texts.
        only_plan: it is shown and not run, so that it may be for devices that are not here.

    Raises:
        ConfigError: a model does not fit on the devices, an attack that was asked for by name can run on no model, or a
            recorded checkpoint has a tokenizer that no other one has.
        RecordsError: texts of both sets are the same without the BOS that they begin with.
    """
    checkpoints = on_disk(subjects)
    has_prompts = any(data.records.column("n_prompt"))
    check_answers(subjects[0].checkpoint.kind, data.records)
    masking = _masking(config, subjects[0].checkpoint, has_prompts=has_prompts)
    tokenizers, frames, renderings, tokenizer_of = _tokenizers(
        checkpoints, masking, data.renderings, has_prompts=has_prompts
    )
    chosen = expand(config.attacks, config.settings)
    leads = list(dict.fromkeys(lead_text(tokenizer) for tokenizer in tokenizers))
    n_twice, n_shared = _with_leads(data, leads)
    if n_shared:
        raise RecordsError(
            f"{n_shared} texts stand in both sets, in one of them behind {' or '.join(filter(None, leads))}, which the "
            "tokenizer puts before every text anyway",
            hint="a text is a member or a non-member: take it out of one of the files",
        )
    passages = build(
        Scripts(data.records, leads),
        tokenizers,
        frames,
        views=_views(attack for attack, _ in chosen),
        shots=_without_leads(data.shots, leads),
        window=shared_window(config.max_tokens, distinct(subjects).values()),
        contexts=[
            None if own is None else [(without_lead(first, leads), *rest) for first, *rest in own.contexts]
            for own in renderings
        ],
        shots_of=[None if own is None else _without_leads(own.shots, leads) for own in renderings],
        seed=config.seed,
    )
    _check_known_words(checkpoints, passages, tokenizer_of)
    _check_known_tokens(checkpoints, passages, tokenizer_of)
    tokenizer_of |= _tokenizer_of_recorded(subjects, passages, splits)
    twice = [TWICE.format(n=n_twice, lead=" or ".join(filter(None, leads)))] if n_twice else []
    attacks = tuple(
        AttackPlan(
            attack,
            is_requested,
            {subject.name: _obstacle(attack, subject, passages, tokenizer_of, data, config) for subject in subjects},
        )
        for attack, is_requested in chosen
    )
    for plan in attacks:
        if plan.is_requested and not plan.runs_on:
            raise ConfigError(
                f"--attack {plan.attack.name}: {_all_obstacles(plan)}",
                hint="kdaudit attack --list-attacks says what each attack needs",
            )
    spread = settle_spread(config, only_plan=only_plan)
    device = computes_on(spread, choose_device(config.device))
    dtype = choose_dtype(config.dtype, device, checkpoints)
    check_attention(config.attention, dtype, only_plan=only_plan)
    batch_tokens = config.batch_tokens or scoring_batch_tokens(device)
    passes = _passes(subjects, attacks, passages, tokenizer_of)
    placements = _placements(passes, spread, batch_tokens, device, dtype)
    not_held = _not_held(checkpoints, placements)
    if not_held and not only_plan:
        raise ConfigError("\n".join(f"--device-map auto: {why}" for why in not_held.values()), hint=SMALLER)
    compared, uncompared = _compared(checkpoints, spread, placements, dtype) if not only_plan else ({}, [])
    dequantised = frozenset(one for one, checkpoint in checkpoints.items() if is_dequantised(checkpoint, device))
    return Plan(
        subjects=subjects,
        attacks=attacks,
        passes=passes,
        passages=passages,
        tokenizer_of=tokenizer_of,
        device=device,
        dtype=dtype,
        batch_tokens=batch_tokens,
        warnings=(
            *_warnings(config, data, passages),
            *twice,
            *_dequantised(distinct(subjects), dequantised),
            *_hardly_quantised(checkpoints, placements),
            *uncompared,
            *notes,
        ),
        masking=masking,
        dequantised=dequantised,
        spread=spread,
        placements=placements,
        not_held=not_held,
        compared=compared,
        attention=config.attention,
        keeps_signals=len(data.records) < MANY if config.signals is None else config.signals == FULL,
    )


def _placements(
    passes: Sequence[Pass], spread: Spread | None, batch_tokens: int, device: str, dtype: str
) -> dict[str, Placement]:
    """By fingerprint, where the parts of each model lie, with room for the largest batch of its passes."""
    if spread is None:
        return {}
    states: dict[str, int] = {}
    for one in passes:
        needed = _states_bytes(one, batch_tokens, device, dtype)
        states[one.checkpoint.fingerprint] = max(states.get(one.checkpoint.fingerprint, 0), needed)
    checkpoints = {one.checkpoint.fingerprint: one.checkpoint for one in passes}
    found = {
        fingerprint: placed(one, device=device, dtype=dtype, spread=spread, states=states[fingerprint])
        for fingerprint, one in checkpoints.items()
    }
    return {fingerprint: placement for fingerprint, placement in found.items() if placement is not None}


def _hardly_quantised(checkpoints: Mapping[str, Checkpoint], placements: Mapping[str, Placement]) -> Iterator[str]:
    """What to say of models of which a quantisation leaves most weights as they are."""
    for fingerprint, placement in placements.items():
        one = checkpoints[fingerprint]
        if one.stored is None and placement.packed_share < 0.5:
            yield (
                f"{one.load} quantises {placement.packed_share:.0%} of the weights of {one.name}: transformers leaves "
                "embeddings, heads and the experts of a mixture whole"
            )


def _compared(
    checkpoints: Mapping[str, Checkpoint], spread: Spread | None, placements: Mapping[str, Placement], dtype: str
) -> tuple[dict[str, str], list[str]]:
    """By fingerprint, where a model on several devices has room as a whole; and what to say of those that have none."""
    found, notes = {}, []
    for fingerprint, one in checkpoints.items() if spread is not None else ():
        placement = placements.get(fingerprint)
        if placement is not None and not placement.is_split:
            continue
        weights = one.memory_bytes(dtype) if placement is None else sum(share.weights for share in placement.shares)
        device = room_for_whole(weights)
        if device == "cpu" and one.stored not in {None, *LOADS}:
            device = None  # most of the packages that unpack such weights compute on GPUs alone
        if device is not None:
            found[fingerprint] = device
        else:
            notes.append(
                f"{one.name} lies on several devices, and what it says there was not compared with what it says on "
                f"one: none that computes it has room for its {in_words(weights)}"
            )
    return found, notes


def _not_held(checkpoints: Mapping[str, Checkpoint], placements: Mapping[str, Placement]) -> dict[str, str]:
    """By fingerprint, why a model cannot lie as it is placed."""
    return {
        fingerprint: f"{checkpoints[fingerprint].name} does not fit: {why}"
        for fingerprint, placement in placements.items()
        if (why := why_not(checkpoints[fingerprint], placement))
    }


def _with_leads(data: AuditData, leads: Sequence[str]) -> tuple[int, int]:
    """How many texts begin with a lead, and how many of those in both sets are the same without."""
    written = tuple(filter(None, leads))
    n_twice = sum(text.startswith(written) for text in texts_of(data.records)) if written else 0
    if not n_twice:
        return 0, 0
    marks = fingerprints(without_lead(text, leads) for text in texts_of(data.records))
    n_members = len(data.members)
    return n_twice, np.intersect1d(marks[:n_members], marks[n_members:]).size


def _without_leads(texts: Iterable[str], leads: Sequence[str]) -> list[str]:
    return [without_lead(text, leads) for text in texts]


def _masking(config: AuditConfig, checkpoint: Checkpoint, *, has_prompts: bool) -> Masking | None:
    """What is hidden from models from which words are hidden; None for the others."""
    if hides_words(checkpoint.kind, has_prompts=has_prompts):
        return Masking(config.mask_plan or DEFAULT_PLAN, config.mask_groups or DEFAULT_GROUPS, config.seed)
    given = [
        flag for flag, value in (("--mask-plan", config.mask_plan), ("--mask-groups", config.mask_groups)) if value
    ]
    if given:
        raise ConfigError(
            f"{given[0]}: nothing is hidden from {checkpoint.name}, which is {WORDS[checkpoint.kind]}",
            hint=f"leave {' and '.join(given)} out, or read the models as masked ones: --as masked",
        )
    return None


def _check_known_words(
    checkpoints: Mapping[str, Checkpoint], passages: Passages, tokenizer_of: Mapping[str, int]
) -> None:
    """Refuse a tokenizer to which most of the texts are unknown words: it could not tell them apart."""
    some = passages.shards()[0] if passages.scripts else []
    for fingerprint, checkpoint in checkpoints.items():
        k = tokenizer_of[fingerprint]
        unknown = getattr(passages.tokenizers[k], "unk_token_id", None)
        found = [passage.ids for passage in passages.read(some, PLAIN, k)]
        n_tokens = sum(ids.size for ids in found)
        n_unknown = sum(int((ids == unknown).sum()) for ids in found) if unknown is not None else 0
        if n_tokens and n_unknown / n_tokens > MOST_UNKNOWN:
            raise CheckpointError(
                f"the tokenizer of {checkpoint.name} knows hardly a word of these texts: {n_unknown / n_tokens:.0%} of "
                "the tokens of the longest ones are its unknown token",
                hint="the tokenizer in the checkpoint's folder is damaged, or the texts are in another language",
            )


def _check_known_tokens(
    checkpoints: Mapping[str, Checkpoint], passages: Passages, tokenizer_of: Mapping[str, int]
) -> None:
    """Refuse a model whose tokenizer gives tokens that it has no embedding for.

    An encoder-decoder may have two vocabularies: the engine looks at those.
    """
    for fingerprint, checkpoint in checkpoints.items():
        largest = max(shown[tokenizer_of[fingerprint]].largest for shown in passages.shown.values())
        if checkpoint.kind != "seq2seq":
            check_known(largest, checkpoint.vocab_size, checkpoint.name, error=CheckpointError)


def _all_obstacles(plan: AttackPlan) -> str:
    """Every obstacle once, with the models in its way."""
    models: dict[str, list[str]] = {}
    for name, obstacle in plan.obstacles.items():
        models.setdefault(obstacle, []).append(name)
    return "; ".join(f"{', '.join(names)}: {obstacle}" for obstacle, names in models.items())


def distinct(subjects: Sequence[Subject]) -> dict[str, Checkpoint]:
    """Every checkpoint of the audited models and their references once, by its fingerprint.

    Of one that is both recorded and on disk, the latter.
    """
    found: dict[str, Checkpoint] = {}
    for _, checkpoint in _labelled(subjects):
        known = found.get(checkpoint.fingerprint)
        if known is None or known.is_recorded:
            found[checkpoint.fingerprint] = checkpoint
    return found


def on_disk(subjects: Sequence[Subject]) -> dict[str, Checkpoint]:
    """Those that are not known from an earlier run alone."""
    return {fingerprint: one for fingerprint, one in distinct(subjects).items() if not one.is_recorded}


def _tokenizer_of_recorded(
    subjects: Sequence[Subject], passages: Passages, splits: Mapping[str, str]
) -> dict[str, int]:
    """By the fingerprint of every recorded checkpoint: the tokenizer that splits the texts as its own did."""
    found = {}
    for fingerprint, checkpoint in distinct(subjects).items():
        if not checkpoint.is_recorded:
            continue
        if splits[fingerprint] not in passages.splits:
            raise ConfigError(
                f"--teacher-run: {checkpoint.name}, which was scored there, has another tokenizer than the students",
                hint="give --teacher, which is then asked again",
            )
        found[fingerprint] = passages.splits.index(splits[fingerprint])
    return found


def _views(attacks: Iterable[Attack]) -> list[View]:
    """Every view that is asked for once, the plain one first and those with shots last."""
    return sorted(dict.fromkeys(view for one in attacks for view in (PLAIN, *one.views)), key=lambda v: v.is_prefixed)


def _tokenizers(
    checkpoints: Mapping[str, Checkpoint],
    masking: Masking | None,
    renderings: Mapping[str, Rendering],
    *,
    has_prompts: bool,
) -> tuple[list[object], list[Frame], list[Rendering | None], dict[str, int]]:
    """The tokenizers with the frames of the checkpoints and what they are shown, equal ones once, and who has which."""
    tokenizers: list[object] = []
    frames: list[Frame] = []
    shown: list[Rendering | None] = []
    index_of_state: dict[tuple[str, str, str], int] = {}
    tokenizer_of = {}
    for fingerprint, checkpoint in checkpoints.items():
        tokenizer = load_tokenizer(checkpoint)
        frame = frame_of(
            checkpoint.kind, tokenizer, masking, decoder_start=checkpoint.decoder_start,
            model_type=checkpoint.model_type, has_prompts=has_prompts,
        )  # fmt: skip
        own = renderings.get(fingerprint)
        kind = repr((frame.kind.name, frame.lead, frame.tail, frame.start))
        state = described(tokenizer), kind, own.name if own else ""
        if state not in index_of_state:
            index_of_state[state] = len(tokenizers)
            tokenizers.append(tokenizer)
            frames.append(frame)
            shown.append(own)
        tokenizer_of[fingerprint] = index_of_state[state]
    return tokenizers, frames, shown, tokenizer_of


def is_shown_shots(attack: Attack, config: AuditConfig, subject: Subject) -> bool:
    """Whether a model is shown the shots of an attack: a masked one, which reads them in every pass, if asked for."""
    return subject.checkpoint.kind != "masked" or bool({"all", attack.name} & set(config.attacks))


def _obstacle(
    attack: Attack,
    subject: Subject,
    passages: Passages,
    tokenizer_of: Mapping[str, int],
    data: AuditData,
    config: AuditConfig,
) -> str:
    """Why `attack` cannot run on a model; "" where it can."""
    is_random = (config.mask_plan or "").startswith("random:")
    if subject.name == "teacher" and data.teacher_obstacle:
        return data.teacher_obstacle
    if attack.needs_reference and subject.reference is None:
        why, given = data.no_start.get(subject.name), f"reference model was given ({option_of(subject.name)}-reference)"
        return f"{why}; no other {given}" if why else f"no {given}"
    if attack.needs_same_tokenizer and not _is_same_tokenizer(subject, passages, tokenizer_of):
        return "the reference model has another tokenizer, so its tokens cannot be compared one by one"
    if attack.needs_reference and is_random and not _is_same_tokenizer(subject, passages, tokenizer_of):
        return "the reference model has another tokenizer, so random masks hide other bytes of a text from it"
    if attack.needs_case and ignores_case(passages.tokenizers[tokenizer_of[subject.checkpoint.fingerprint]]):
        return "the tokenizer makes the same tokens of a text in lower case"
    if attack.needs_shots and not is_shown_shots(attack, config, subject):
        return (
            "no cache can serve a masked model, which would read the shots in every pass; "
            f"--attack {attack.name} or --attack all runs it"
        )
    if attack.needs_shots and is_random:
        return "random masks hide other words of a text that is cut to make room for the shots"
    if attack.needs_shots and passages.n_shots == 0:
        return (
            f"no shot fits into half of the context ({passages.window} tokens)"
            if data.shots
            else "there are too few non-members to take shots from"
        )
    return ""


def _is_same_tokenizer(subject: Subject, passages: Passages, tokenizer_of: Mapping[str, int]) -> bool:
    models = [one for one in (subject.checkpoint, subject.reference) if one is not None]
    return len({passages.splits[tokenizer_of[one.fingerprint]] for one in models}) == 1


def _passes(
    subjects: Sequence[Subject], attacks: Sequence[AttackPlan], passages: Passages, tokenizer_of: Mapping[str, int]
) -> tuple[Pass, ...]:
    """Every pass once, a checkpoint's passes next to each other; the plain view also feeds mixed supervision."""
    found: dict[tuple[str, View], Pass] = {}
    for subject in subjects:
        if subject.checkpoint.is_recorded:
            continue
        views = _views(plan.attack for plan in attacks if not plan.obstacles[subject.name])
        wanted = [(subject.name, subject.checkpoint, view) for view in views or (PLAIN,)]
        if subject.reference is not None:
            wanted.append((f"{subject.name}-reference", subject.reference, PLAIN))
        for label, checkpoint, view in wanted:
            k = tokenizer_of[checkpoint.fingerprint]
            shown = passages.shown[view][k]
            one = Pass(label, checkpoint, view, k, passages.n_read(view, k), shown.n_passes, shown.longest)
            found.setdefault((checkpoint.fingerprint, view), one)
    return tuple(
        sorted(found.values(), key=lambda one: list(dict.fromkeys(p.label for p in found.values())).index(one.label))
    )


def _span(counts: Sequence[int]) -> str:
    """A count, or the range of several."""
    return f"{min(counts):,}" + (f" to {max(counts):,}" if len(set(counts)) > 1 else "")


def _dequantised(checkpoints: Mapping[str, Checkpoint], dequantised: frozenset[str]) -> Iterator[str]:
    for fingerprint, one in checkpoints.items():
        if fingerprint in dequantised:
            yield (
                f"the weights of {one.name} are stored in {one.load} and are dequantised: here they compute as whole "
                "numbers of the dtype of the run"
            )
        if one.is_gguf:
            yield (
                f"{one.name} is a GGUF file: its weights, most of them stored in {one.dtype}, are dequantised; whether "
                "another checkpoint is a copy of it is not checked"
            )


def _warnings(config: AuditConfig, data: AuditData, passages: Passages) -> list[str]:
    warnings = list(data.notes)
    if passages.n_cut:
        warnings.append(
            f"{passages.n_cut} of {len(passages.scripts)} texts are longer than {passages.window} tokens "
            "and were cut, the same for all models"
        )
    if passages.n_prompts_cut:
        warnings.append(
            f"{passages.n_prompts_cut} of {len(passages.scripts)} prompts are longer than the {passages.window} tokens "
            "that the encoders read and were cut, the same for all models"
        )
    if 0 < passages.n_shots < len(data.shots):
        warnings.append(
            f"{passages.n_shots} of {len(data.shots)} shots fill half of the context ({passages.window} tokens); "
            "the others were left out"
        )
    if not config.shots and data.is_shots_drawn and len(data.shots) < config.n_shots:
        warnings.append(f"only {len(data.shots)} of {config.n_shots} shots could be taken from the non-members")
    return warnings
