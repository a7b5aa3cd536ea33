"""How one model is run: every shortcut is checked against the model's own logits before it is taken."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kdaudit.config import FLASH
from kdaudit.errors import ModelError
from kdaudit.models.devices import input_device, is_held_together
from kdaudit.models.lengths import ALIKE, EVERY_LENGTH_BY_ITSELF, LengthRules, forgetting, length_rules
from kdaudit.signals.batch import Columns, by_showing, make_batch, make_packed_batch
from kdaudit.signals.vocabulary import Head, reduce_vocabulary
from kdaudit.targets.passage import Passage
from kdaudit.targets.plan import Frame, Kind, Showing

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Inputs = Mapping[str, torch.Tensor]
"""What a model is called with: (B, S) by the name of the argument."""

PROBE_TOKENS = 64  # of each text, where a model's own logits are needed: they exist for all tokens at once
AGREEMENT = {torch.float32: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.1}  # nats, largest difference of one token
FACTORS, DIVISORS = ("logit_scale", "lm_head_multiplier"), ("logits_scaling",)
"""What configurations call the number that logits are multiplied or divided by."""
CAPS = ("final_logit_softcapping", "logits_soft_cap")
"""What they call the number that logits are kept below."""
HEAD_AGREEMENT = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}  # of the largest logit


@dataclass(frozen=True, slots=True)
class Runner:
    """How one model's states are computed, settled on its first batch."""

    states: Callable[[Inputs], torch.Tensor]
    """What the model is called with -> (B, S, H) hidden states, or (B, S, V) logits where `head` is None."""
    head: Head | None
    n_cached: int = 0
    """Tokens that every text begins with and that lie in a cache: they are left out of the batch."""
    rules: LengthRules = ALIKE
    """Lengths that go through the model together are read by the same rules."""
    without_cache: Runner | None = None
    """Where a prefix is cached: what is taken where a text's length has other rules than the prefix."""
    is_packed: bool = False
    """Whether the texts of a batch stand one after the other in one row, without padding."""

    def at(self, n_tokens: int) -> Runner:
        """What runs texts that are, with all that stands before them, `n_tokens` long."""
        is_alike = self.rules.rule(n_tokens) == self.rules.rule(self.n_cached)
        return self if self.without_cache is None or is_alike else self.without_cache

    def run(self, showings: Sequence[Showing], kind: Kind, device: torch.device) -> list[Columns]:
        """The signals of some showings, one forward pass for all of them."""
        shown = [one.after(self.n_cached) for one in showings]
        batch = make_packed_batch(shown, device) if self.is_packed else make_batch(shown, kind, device)
        states = self.states(batch.inputs)  # on the device of the last part
        states = states[batch.rows.to(states.device), batch.columns.to(states.device)]
        return by_showing(reduce_vocabulary(states, batch.targets, self.head), shown)


def settle(model: PreTrainedModel, probe: Sequence[Passage], frame: Frame) -> Runner:
    """Decide on a few passages how this model can be run, checking every shortcut against its own logits.

    The head is applied in chunks of tokens only where that gives the model's own logits, and a prefix is computed once
    only where its cache gives what one full pass gives.

    Args:
        model: in eval mode.
        probe: at least one; each has a token to predict.
        frame: how the texts are shown.

    Raises:
        ModelError: the logits hold NaN, or depend on later tokens where the kind of model does not allow that.
    """
    kind, alone, device = frame.kind, replace(frame, prefix=()), input_device(model)
    with torch.inference_mode():
        shown = [alone.plan(first_tokens(passage, kind)).showings[0] for passage in probe]
        inputs = make_batch(shown[:1] if kind.is_causal else shown, kind, device).inputs
        own = _first_pass(model, inputs)
        first = own[0, : shown[0].ids.size]
        if bool(torch.isnan(first).any()):
            raise ModelError(
                "the model's logits hold NaN", hint="its weights are damaged, or they overflow in this dtype (--dtype)"
            )
        if kind.is_causal:
            _check_causal(model, inputs["input_ids"], first)
        split = split_head(model, inputs, own, with_rest=not kind.is_causal)
        bare = Runner(_own_logits(model), None) if split is None else Runner(_states_of(model, split.body), split.head)
        plain = replace(bare, rules=_rules(model, bare, probe[0], alone))
        if kind.is_causal and packs(model):
            plain = _packed_if_same(model, plain, shown if len(shown) > 1 else shown * 2, kind)
        if not frame.prefix or not kind.is_causal:
            return plain
        pair = probe if len(probe) > 1 else [first_tokens(probe[0], kind)] * 2  # a cache may serve one text and no more
        whole = [frame.plan(passage).showings[0] for passage in pair]
        try:
            expected = plain.run(whole, kind, device)
            cached = _cached_runner(model, plain, frame.before)
            if cached is None:
                return plain
            found = cached.run(whole, kind, device)
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, MemoryError) as error:
            if is_out_of_memory(error) and (pair is probe or is_held_together(model)):
                raise
            return plain
    return cached if _largest_gap(expected, found) <= agreement(model) else plain


def _largest_gap(expected: Sequence[Columns], found: Sequence[Columns]) -> float:
    """Nats, between the log-probabilities of any token."""
    return max(float(np.abs(a[0] - b[0]).max(initial=0)) for a, b in zip(expected, found, strict=True))


def packs(model: PreTrainedModel) -> bool:
    """Whether a model's attention reads from positions where one text ends and the next one begins, at no cost."""
    return str(getattr(model.config, "_attn_implementation", "")).startswith(FLASH)


def _packed_if_same(model: PreTrainedModel, plain: Runner, shown: Sequence[Showing], kind: Kind) -> Runner:
    """The runner without padding, where it gives what padded batches give.

    A state that runs through the row, as recurrent layers have one, would carry one text into the next.
    """
    packed = replace(plain, is_packed=True)
    device = input_device(model)
    try:
        expected, found = (runner.run(shown, kind, device) for runner in (plain, packed))
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        return plain
    return packed if _largest_gap(expected, found) <= agreement(model) else plain


def _rules(model: PreTrainedModel, runner: Runner, probe: Passage, frame: Frame) -> LengthRules:
    """Those of the configuration, unless the first tokens of a text score otherwise alone than within the text.

    Then the model changes with the length in a way that nothing says, and no text is padded.
    """
    known = length_rules(model)
    if not frame.kind.is_causal:
        return known  # a part of a text scores otherwise alone, whatever the rules are
    n_first = probe.ids.size // 4
    first = probe.first(n_first)
    pair = [plan.showings[0] for plan in map(frame.plan, (first, probe)) if plan.showings]
    if len(pair) < 2 or known.rule(pair[0].size) != known.rule(pair[1].size):
        return known
    alone, within = (runner.run([one], frame.kind, input_device(model))[0][0] for one in pair)
    gap = np.abs(alone - within[: alone.size])
    return known if float(np.median(gap)) <= agreement(model) else EVERY_LENGTH_BY_ITSELF


def _first_pass(model: PreTrainedModel, inputs: Inputs) -> torch.Tensor:
    try:
        logits: torch.Tensor = model(**inputs, **without_cache(model)).logits
    except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(f"the model cannot be run on texts: {error}") from error
    return logits


def _check_causal(model: PreTrainedModel, ids: torch.Tensor, logits: torch.Tensor) -> None:
    """Other tokens in the second half of a text must leave the logits of its first half as they are.

    The changed text is read in a pass of its own: experts that choose among all tokens of a batch would choose alike
    for both.

    Args:
        model: in eval mode.
        ids: (1, S), one text.
        logits: (S, V), the model's own for it.

    Raises:
        ModelError: the first half depends on the second.
    """
    half = max(1, logits.shape[0] // 2)
    changed = torch.cat([ids[:, :half], torch.where(ids[:, half:] > 0, ids[:, half:] - 1, 1)], dim=1)
    again = _first_pass(model, {"input_ids": changed})[0]
    scores, others = (some[:half].float().log_softmax(-1) for some in (logits, again))
    is_likely = scores > -20  # far in the tail, rounding alone makes large differences
    gaps = torch.where(is_likely, (others - scores).abs(), 0).amax(dim=-1)
    if float(gaps.median()) > agreement(model):
        raise ModelError(
            "the model's predictions depend on later tokens, so it is not a causal language model",
            hint="encoders (BERT and the like) are masked language models: --as masked reads them so",
        )


@dataclass(frozen=True, slots=True)
class Split:
    """A model as what computes states and what reads logits off them."""

    body: torch.nn.Module
    """Called as the model is, it gives `last_hidden_state`, (B, S, H), of the decoder where there is an encoder too."""
    head: torch.nn.Module
    """(n, H) -> (n, V), a function of each row by itself."""


def split_head(model: PreTrainedModel, inputs: Inputs, own: torch.Tensor, *, with_rest: bool = False) -> Split | None:
    """The model's body and head, if applying one after the other gives its own logits; else None.

    Args:
        model: in eval mode.
        inputs: what to try it on.
        own: (B, S, V), the model's own logits for them.
        with_rest: also try all of the model but its body as the head: those of masked models have layers of their own.
    """
    body = getattr(model, model.base_model_prefix, None)
    is_paired = bool(getattr(model.config, "is_encoder_decoder", False))
    if body is None and is_paired:
        body = EncoderDecoder(model)
    if body is None or body is model:
        return None
    states = getattr(body(**inputs, **without_cache(body)), "last_hidden_state", None)
    if states is None:  # of two models put together the decoder is a whole one, with its head
        return None
    scale = max(1.0, float(own.abs().max()))
    for head in (*_heads(model), *((Rest(model),) if with_rest and not is_paired else ())):
        try:
            logits = head(states.flatten(0, 1)).view(*states.shape[:2], -1) if isinstance(head, Rest) else head(states)
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            if is_out_of_memory(error):
                raise
            continue  # such a head reads more than the states of the last layer, one by one
        if logits.shape == own.shape and _gap(logits, own) <= HEAD_AGREEMENT[_dtype(model)] * scale:
            return Split(body, head)
    return None


class EncoderDecoder(torch.nn.Module):
    """The body of a model that has an encoder and a decoder but no module around both, as T5 has none."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.encoder, self.decoder = model.get_encoder(), model.get_decoder()

    def forward(
        self,
        input_ids: torch.Tensor,
        decoder_input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        **options: Any,
    ) -> Any:
        """What the decoder gives: `last_hidden_state` is (B, S, H)."""
        read = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.decoder(
            input_ids=decoder_input_ids, attention_mask=decoder_attention_mask, encoder_hidden_states=read,
            encoder_attention_mask=attention_mask, **without_cache(self.decoder), **options,
        )  # fmt: skip


class ScaledHead(torch.nn.Module):
    """An output embedding that reads states times a factor and adds a bias to all logits, or scales or caps these."""

    def __init__(
        self,
        output: torch.nn.Module,
        *,
        scale: float = 1.0,
        bias: torch.Tensor | None = None,
        factor: float | None = None,
        cap: float | None = None,
    ) -> None:
        super().__init__()
        self.output, self.scale, self.bias, self.factor, self.cap = output, scale, bias, factor, cap

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(n, H) -> (n, V)."""
        logits: torch.Tensor = self.output(states * self.scale)
        if self.bias is not None:
            logits = logits + self.bias.to(logits.device)  # the model may have gone to another device since
        if self.factor is not None:
            logits = logits * self.factor
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


def _heads(model: PreTrainedModel) -> Iterator[torch.nn.Module]:
    """What may read logits off states: the output embedding alone, or with what a family adds to it.

    BART adds a bias, T5 scales the states, Cohere, Granite and Falcon-H1 the logits, and Gemma caps these.
    """
    output = model.get_output_embeddings()
    if output is None:
        return
    given = {name: getattr(model.config.get_text_config(), name, None) for name in (*FACTORS, *DIVISORS, *CAPS)}
    known = {name: float(value) for name, value in given.items() if isinstance(value, int | float) and value}
    for name, value in known.items():  # before the output alone: small logits are almost what they are under a cap
        factor = value if name in FACTORS else 1 / value
        yield ScaledHead(output, cap=value) if name in CAPS else ScaledHead(output, factor=factor)
    yield output
    bias = getattr(model, "final_logits_bias", None)
    if isinstance(bias, torch.Tensor):
        yield ScaledHead(output, bias=bias[0])
    width = getattr(model.config, "d_model", None)
    if isinstance(width, int):
        yield ScaledHead(output, scale=width**-0.5)


class Rest(torch.nn.Module):
    """A model without its body: (n, H) states of the last layer -> (n, V) logits."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        name = model.base_model_prefix
        self.given = _Given(getattr(model, name))
        self.rest = copy.copy(model)
        self.rest._modules = {**model._modules, name: self.given}  # of the copy alone
        self.rest.__dict__.pop("forward", None)  # a hook of accelerate, which would call the model itself

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(n, H) -> (n, V)."""
        self.given.states = states[None]
        ids = torch.zeros((1, states.shape[0]), dtype=torch.int64, device=states.device)
        logits: torch.Tensor = self.rest(input_ids=ids).logits[0]
        return logits


class _Given(torch.nn.Module):
    """Stands in the place of a body and says what it is given; its parts are those of the body."""

    states: torch.Tensor

    def __init__(self, body: torch.nn.Module) -> None:
        super().__init__()
        self.__dict__["body"] = body  # no submodule: this one has no weights

    def forward(self, *_: Any, **__: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        return BaseModelOutput(last_hidden_state=self.states)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["body"], name)


def without_cache(module: torch.nn.Module) -> dict[str, bool]:
    """What keeps a model from building a cache: encoders do not know the word."""
    return {"use_cache": False} if "use_cache" in inspect.signature(module.forward).parameters else {}


def readable_by(model: PreTrainedModel) -> Callable[[Inputs], Inputs]:
    """Takes out of a batch what a model cannot read: most have one kind of text and no numbers for it."""
    knows_pairs = int(getattr(model.config, "type_vocab_size", 0) or 0) > 1

    def read(inputs: Inputs) -> Inputs:
        return {name: table for name, table in inputs.items() if knows_pairs or name != "token_type_ids"}

    return read


def _states_of(model: PreTrainedModel, body: torch.nn.Module) -> Callable[[Inputs], torch.Tensor]:
    forget, read, quietly = forgetting(model), readable_by(model), without_cache(body)

    def states(inputs: Inputs) -> torch.Tensor:
        forget()
        hidden: torch.Tensor = body(**read(inputs), **quietly).last_hidden_state
        return hidden

    return states


def _own_logits(model: PreTrainedModel) -> Callable[[Inputs], torch.Tensor]:
    forget, read, quietly = forgetting(model), readable_by(model), without_cache(model)

    def states(inputs: Inputs) -> torch.Tensor:
        forget()
        logits: torch.Tensor = model(**read(inputs), **quietly).logits
        return logits

    return states


def _cached_runner(model: PreTrainedModel, plain: Runner, before: tuple[int, ...]) -> Runner | None:
    """All tokens before the texts but the last in a key/value cache; None where the model has no such cache."""
    body: Any = getattr(model, model.base_model_prefix) if plain.head is not None else model
    kept = torch.tensor([before[:-1]], device=input_device(model))
    if kept.shape[1] == 0:
        return None
    forget = forgetting(model)
    forget()
    prefix_cache: Any = getattr(body(input_ids=kept, use_cache=True), "past_key_values", None)
    layers = getattr(prefix_cache, "layers", [])
    if not layers or not all(hasattr(layer, "batch_repeat_interleave") for layer in layers):
        return None

    def states(inputs: Inputs) -> torch.Tensor:
        forget()
        cache = copy.deepcopy(prefix_cache)
        cache.batch_repeat_interleave(next(iter(inputs.values())).shape[0])
        output = body(**inputs, past_key_values=cache, use_cache=True)
        found: torch.Tensor = output.logits if plain.head is None else output.last_hidden_state
        return found

    return Runner(states, plain.head, len(before) - 1, rules=plain.rules, without_cache=plain)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch or of Python says that memory ran out."""
    is_said = "allocate memory" in str(error) or "out of memory" in str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and is_said)


@contextmanager
def explaining_unread_tokens(who: str) -> Iterator[None]:
    """An embedding that has no row for a token or a position says so in words of torch; this says what to do.

    Args:
        who: begins the message: the model.

    Raises:
        ModelError: the embedding lacks a row.
    """
    try:
        yield
    except IndexError as error:
        if "out of range in self" not in str(error):  # what torch says of an embedding
            raise
        raise ModelError(
            f"{who} cannot read a text of this length, or a token in it: {error}",
            hint="it reads fewer tokens at once than its config.json says: lower --max-tokens",
        ) from error


def first_tokens(passage: Passage, kind: Kind) -> Passage:
    """The first tokens of a text, without its prompt where no encoder reads that: something has to be scored."""
    if kind.is_paired:
        return passage.within(PROBE_TOKENS, PROBE_TOKENS)
    return replace(passage.first(PROBE_TOKENS), n_given=0, is_gap=None)


def _dtype(model: PreTrainedModel) -> torch.dtype:
    return model.dtype if model.dtype in AGREEMENT else torch.float32


def agreement(model: PreTrainedModel) -> float:
    """Nats by which one token may differ between two ways of computing it."""
    is_quantised = getattr(model, "is_quantized", False)
    return AGREEMENT[torch.bfloat16 if is_quantised else _dtype(model)]


def _gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.float() - b.to(a.device).float()).abs().max())
