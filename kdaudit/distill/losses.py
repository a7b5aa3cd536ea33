"""What distillation minimises, token by token, without the logits of all tokens ever existing together.

Every divergence is taken between two distributions over the vocabulary, given as natural logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from kdaudit.errors import ConfigError

Divergence = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
"""(teacher, student, beta) -> (n,): of log-probabilities (n, V) each, in nats; at least 0."""

IGNORED = -100  # stands where an output predicts nothing

CHUNK_ELEMENTS = {"cpu": 2**23, "cuda": 2**26, "mps": 2**25}
"""Tokens x vocabulary whose logits exist at one time: enough tokens for the head's matrix product to be fast."""


@dataclass(frozen=True, slots=True)
class Objective:
    """How far the student is from the teacher, and the parameter of that measure."""

    divergence: Divergence | None
    """None: the teacher is not asked, and the ground truth has all the weight."""

    beta: float | None = None
    """The default of its parameter; None where it has none."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a model gives for a batch of B texts of T tokens, padding included."""

    states: torch.Tensor
    """(B, T, H): what its head reads; or (B, T, V), its own logits, where `head` is None."""

    head: torch.nn.Module | None = None
    """(n, H) -> (n, V), a function of each row by itself."""


@dataclass(frozen=True, slots=True)
class CachedOutputs:
    """A teacher's distributions as they were written down: its k likeliest words, and the rest as one word more.

    Rows are the n targets of a batch, text after text. A divergence is taken over these k + 1 outcomes for teacher
    and student alike: at most the divergence over all words, and equal to it where k is the vocabulary.
    """

    words: torch.Tensor
    """(n, k), int64, each row's words once."""
    log_probs: torch.Tensor
    """(n, k), at the temperature of the loss."""
    log_rest: torch.Tensor
    """(n,), log of what all other words have together; -inf where k is the vocabulary."""


def kl(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) of each row in nats; a word with p = 0 counts 0, also where q = 0; infinity where p > 0 = q.

    Args:
        log_p: (n, V), normalised; -inf where a word can never come.
        log_q: (n, V), in the same form.
    """
    p = log_p.exp()
    divergence: torch.Tensor = torch.linalg.vecdot(p, (log_p - log_q).where(p > 0, 0.0))  # -inf minus -inf is NaN
    return divergence


def forward_kl(teacher: torch.Tensor, student: torch.Tensor, _: float) -> torch.Tensor:
    """KL(teacher || student). Source: Hinton et al. 2015, arXiv:1503.02531."""
    return kl(teacher, student)


def reverse_kl(teacher: torch.Tensor, student: torch.Tensor, _: float) -> torch.Tensor:
    """KL(student || teacher). Source: Gu et al. 2024 (MiniLLM), arXiv:2306.08543, token by token."""
    return kl(student, teacher)


def jsd(teacher: torch.Tensor, student: torch.Tensor, beta: float) -> torch.Tensor:
    """Generalised Jensen-Shannon: beta KL(teacher || m) + (1 - beta) KL(student || m), with beta in [0, 1].

    m = beta teacher + (1 - beta) student. At 0 this is KL(teacher || student) and at 1 KL(student || teacher):
    what the divergence over beta, and over 1 - beta, tends to; the formula itself is 0 at both ends.

    Source: Agarwal et al. 2024 (GKD), arXiv:2306.13649, equation 1; the ends as in TRL's `generalized_jsd_loss`.
    """
    if beta in (0, 1):
        return kl(student, teacher) if beta else kl(teacher, student)
    mixture = _mixture(teacher, student, beta)
    return beta * kl(teacher, mixture) + (1 - beta) * kl(student, mixture)


def skew_kl(teacher: torch.Tensor, student: torch.Tensor, beta: float) -> torch.Tensor:
    """KL(teacher || beta teacher + (1 - beta) student), with beta in [0, 1): 0 gives KL(teacher || student).

    Source: Ko et al. 2024 (DistiLLM), arXiv:2402.03898; beta is the paper's alpha.
    """
    return kl(teacher, _mixture(teacher, student, beta) if beta else student)


OBJECTIVES: dict[str, Objective] = {
    "forward-kl": Objective(forward_kl),
    "reverse-kl": Objective(reverse_kl),
    "jsd": Objective(jsd, beta=0.5),
    "skew-kl": Objective(skew_kl, beta=0.1),
    "hard": Objective(None),
}


def settle_beta(objective: str, beta: float | None) -> float | None:
    """The parameter that `objective` is computed with, its default where none is given.

    Raises:
        ConfigError: the objective has no such parameter, or the value is out of its range.
    """
    default = OBJECTIVES[objective].beta
    if beta is None:
        return default
    if default is None:
        raise ConfigError(f"the objective {objective} has no beta", hint="--beta is for jsd and skew-kl")
    if not 0 <= beta <= 1 or (beta == 1 and objective == "skew-kl"):
        raise ConfigError(
            f"--beta {beta:g} is out of range",
            hint="from 0 to 1; below 1 for skew-kl, whose mixture is the teacher at 1",
        )
    return beta


def shared_vocabulary(student_size: int, teacher_size: int, n_known: int) -> tuple[int, str]:
    """How many words both models score, and a note on what was cut; the note is empty where nothing was.

    Logits are padded to a round number of words that no text holds; those of the longer tail have no counterpart.

    Args:
        student_size: words that the student scores.
        teacher_size: words that the teacher scores.
        n_known: words of the tokenizer that both share, its largest id plus one.

    Raises:
        ConfigError: a word of the tokenizer would be cut.
    """
    size = min(student_size, teacher_size)
    if size == max(student_size, teacher_size):
        return size, ""
    longer, shorter = ("student", "teacher") if student_size > size else ("teacher", "student")
    if size < n_known:
        raise ConfigError(
            f"the {shorter} scores {size} tokens, but the tokenizer knows {n_known}",
            hint="teacher and student must share one tokenizer; take a student of the teacher's family",
        )
    n_cut = max(student_size, teacher_size) - size
    return size, f"the {longer}'s last {n_cut} logits are padding without a counterpart: not compared"


def count_targets(targets: torch.Tensor) -> int:
    """How many outputs of a batch predict a token: those of `targets`, (B, T), that are not IGNORED."""
    return int((targets != IGNORED).sum())


def target_rows(targets: torch.Tensor) -> torch.Tensor:
    """Which of the B x T outputs predict a token, (n,), text after text."""
    return (targets.flatten() != IGNORED).nonzero().squeeze(-1)


def distillation_loss(
    student: Outputs,
    teacher: Outputs | CachedOutputs | None,
    targets: torch.Tensor,
    *,
    objective: str,
    hard_weight: float,
    temperature: float,
    n_targets: int | torch.Tensor,
    beta: float | None = None,
    vocabulary: int | None = None,
    label_smoothing: float = 0.0,
    chunk: int | None = None,
) -> torch.Tensor:
    """Sum over the targets of w * cross-entropy + (1 - w) * T^2 * divergence at T, over `n_targets`; nats.

    Computed in float32 at least, a chunk of tokens at a time, its gradient with it: the logits of further tokens
    exist neither then nor for the backward pass. The backward pass can be taken once, and not of a gradient.

    Args:
        student: gets gradients, its states and those weights of its head that train.
        teacher: gets none, live or written down before; None where w is 1, and not read then.
        targets: (B, T), int64: the token that each output predicts, IGNORED where it predicts none; where w is 0
            nothing else is read from them.
        objective: a name of OBJECTIVES; "hard" is w = 1.
        hard_weight: w, the weight on the ground truth, 0 to 1.
        temperature: T, above 0, of both models in the divergence; cross-entropy is at 1.
        n_targets: targets of the whole optimiser step over all its batches and processes, so that their split
            changes nothing.
        beta: the objective's parameter; None for its default.
        vocabulary: the number of words, from the first on, that the divergence compares; None for all, of which both
            models then have the same number.
        label_smoothing: share of the ground truth that is spread evenly over the student's words, 0 to 1.
        chunk: tokens; None for what suits the device.

    Raises:
        ConfigError: `beta` does not fit the objective.
    """
    divergence = OBJECTIVES[objective].divergence
    settled = settle_beta(objective, beta) or 0.0
    weight = 1.0 if divergence is None else hard_weight
    rows = target_rows(targets)
    words = targets.flatten()[rows]

    def chunk_loss(logits: torch.Tensor, part: slice) -> torch.Tensor:
        wide = _widen(logits)
        total = wide.new_zeros(())
        if weight > 0:
            total = weight * functional.cross_entropy(
                wide, words[part], reduction="sum", label_smoothing=label_smoothing
            )
        if weight < 1 and divergence is not None:
            if teacher is None:
                raise ValueError("a soft loss needs a teacher")
            learnt = (wide[:, :vocabulary] / temperature).log_softmax(-1)
            if isinstance(teacher, CachedOutputs):
                taught, learnt = _coarsened(teacher, part, learnt)
            else:
                with torch.no_grad():
                    taught = _widen(_apply(teacher.head, teacher.states.flatten(0, 1)[rows[part]]))
                    taught = (taught[:, :vocabulary] / temperature).log_softmax(-1)
            total = total + (1 - weight) * temperature**2 * divergence(taught, learnt, settled).sum()
        return total

    states = student.states.flatten(0, 1)
    with torch.no_grad():
        width = _apply(student.head, states[:1]).shape[-1]
    size = chunk or max(1, CHUNK_ELEMENTS.get(states.device.type, 2**24) // width)
    parts = [slice(start, start + size) for start in range(0, len(rows), size)]
    if not torch.is_grad_enabled():
        zero = _widen(states.new_zeros(()))
        return sum((chunk_loss(_apply(student.head, states[rows[part]]), part) for part in parts), zero) / n_targets
    weights = [] if student.head is None else [w for w in student.head.parameters() if w.requires_grad]
    total: torch.Tensor = _ChunkedSum.apply(chunk_loss, student.head, rows, parts, states, *weights)  # type: ignore[no-untyped-call]
    return total / n_targets  # not inside: float16 gradients of single tokens over thousands would vanish


class _ChunkedSum(torch.autograd.Function):
    """A sum over chunks of rows whose gradients are taken while each chunk's logits exist.

    Unlike checkpointing it computes no logits twice, which in small models costs a third of the step.
    """

    @staticmethod
    def forward(
        ctx: Any,
        chunk_loss: Callable[[torch.Tensor, slice], torch.Tensor],
        head: torch.nn.Module | None,
        rows: torch.Tensor,
        parts: Sequence[slice],
        states: torch.Tensor,
        *weights: torch.Tensor,
    ) -> torch.Tensor:
        total = _widen(states.new_zeros(()))
        state_grads = torch.zeros_like(states)
        weight_grads = [torch.zeros_like(w, dtype=_wide(w.dtype)) for w in weights]  # bfloat16 would lose small chunks
        for part in parts:
            with torch.enable_grad():
                some = states.detach()[rows[part]].requires_grad_()
                value = chunk_loss(_apply(head, some), part)
            first, *others = torch.autograd.grad(value, [some, *weights])
            total += value.detach()
            state_grads[rows[part]] = first
            for sums, grad in zip(weight_grads, others, strict=True):
                sums += grad
        ctx.save_for_backward(state_grads, *(g.to(w.dtype) for g, w in zip(weight_grads, weights, strict=True)))
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, scale: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return (None,) * 4 + tuple(grad * scale.to(grad.dtype) for grad in ctx.saved_tensors)


def _coarsened(teacher: CachedOutputs, part: slice, learnt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both distributions over the teacher's likeliest words and all others as one, (m, k + 1)."""
    words = teacher.words[part]
    taught, own = teacher.log_probs[part].to(learnt.dtype), learnt.gather(-1, words)
    if words.shape[-1] == learnt.shape[-1]:
        return taught, own  # nothing is left over, and the gradient of log 0 would be NaN
    rest = learnt.scatter(-1, words, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([taught, teacher.log_rest[part].unsqueeze(-1).to(learnt.dtype)], -1), torch.cat([own, rest], -1)


def _mixture(teacher: torch.Tensor, student: torch.Tensor, share: float) -> torch.Tensor:
    """log(share teacher + (1 - share) student), with `share` strictly between 0 and 1."""
    never = (teacher == -torch.inf) & (student == -torch.inf)  # its gradient would be NaN; both weights are 0 there
    parts = (teacher.masked_fill(never, 0.0), student.masked_fill(never, 0.0))
    return torch.logaddexp(parts[0] + math.log(share), parts[1] + math.log1p(-share))


def _apply(head: torch.nn.Module | None, states: torch.Tensor) -> torch.Tensor:
    if head is None:
        return states
    logits: torch.Tensor = head(states)
    return logits


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _widen(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(_wide(tensor.dtype))
