"""The loss of a batch agrees with its formula and does not depend on how its tokens are split."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from kdaudit.distill.losses import (
    IGNORED,
    OBJECTIVES,
    CachedOutputs,
    Outputs,
    count_targets,
    distillation_loss,
    target_rows,
)
from tests import tiny

SOFT = [name for name, objective in OBJECTIVES.items() if objective.divergence is not None]
WIDTH, WORDS = 6, 11


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def outputs(
    n_texts: int, n_tokens: int, *, seed: int, words: int = WORDS, dtype: torch.dtype = torch.float64
) -> Outputs:
    head = torch.nn.Linear(WIDTH, words, dtype=dtype)
    with torch.no_grad():
        head.weight.copy_(draw(words, WIDTH, seed=seed))
        head.bias.copy_(draw(words, seed=seed + 1))
    return Outputs(draw(n_texts, n_tokens, WIDTH, seed=seed + 2, dtype=dtype).requires_grad_(), head)


def some_labels(n_texts: int, n_tokens: int, *, seed: int = 0) -> torch.Tensor:
    """About a third of the tokens are no targets."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, WORDS, (n_texts, n_tokens), generator=generator)
    return labels.masked_fill(torch.rand(n_texts, n_tokens, generator=generator) < 1 / 3, IGNORED)


def predicted(labels: torch.Tensor) -> torch.Tensor:
    """What the outputs of a causal model predict: each the token after it."""
    return functional.pad(labels[:, 1:], (0, 1), value=IGNORED)


def loss(
    student: Outputs, teacher: Outputs | CachedOutputs | None, labels: torch.Tensor, **options: object
) -> torch.Tensor:
    settings: dict[str, object] = {
        "objective": "forward-kl", "hard_weight": 0.5, "temperature": 2.0,
        "n_targets": count_targets(predicted(labels)),
    }  # fmt: skip
    return distillation_loss(student, teacher, predicted(labels), **(settings | options))  # type: ignore[arg-type]


def value_and_gradients(
    student: Outputs, teacher: Outputs | CachedOutputs | None, labels: torch.Tensor, **options: object
) -> list[torch.Tensor]:
    """The loss and its gradients: of the states, of the head's weights, of its biases."""
    assert student.head is not None
    value = loss(student, teacher, labels, **options)
    return [value.detach(), *torch.autograd.grad(value, [student.states, *student.head.parameters()])]


def at_once(
    student: Outputs, teacher: Outputs, labels: torch.Tensor, *, objective: str, weight: float, temperature: float
) -> torch.Tensor:
    """The same loss with all logits in memory, by autograd alone."""
    assert student.head is not None
    assert teacher.head is not None
    is_target = labels[:, 1:] != IGNORED
    learnt = student.head(student.states)[:, :-1][is_target]
    taught = teacher.head(teacher.states)[:, :-1][is_target].detach()
    hard = functional.cross_entropy(learnt, labels[:, 1:][is_target])
    divergence = OBJECTIVES[objective].divergence
    assert divergence is not None
    logs = [(logits / temperature).log_softmax(-1) for logits in (taught, learnt)]
    soft = divergence(logs[0], logs[1], OBJECTIVES[objective].beta or 0.0).mean()
    return weight * hard + (1 - weight) * temperature**2 * soft


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor], *, within: float = 1e-10) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=within, atol=within)


@pytest.mark.parametrize(
    ("name", "beta"),
    [(name, None) for name in SOFT] + [("jsd", 0.0), ("jsd", 0.3), ("jsd", 1.0), ("skew-kl", 0.0), ("skew-kl", 0.9)],
)
def test_a_student_equal_to_its_teacher_has_loss_0_and_gradient_0(name: str, beta: float | None) -> None:
    student = outputs(2, 5, seed=0, dtype=torch.float32)
    teacher = Outputs(student.states.detach(), student.head)
    found = value_and_gradients(
        student, teacher, some_labels(2, 5), objective=name, hard_weight=0.0, temperature=1.0, beta=beta
    )
    assert_close(found, [torch.zeros_like(tensor) for tensor in found], within=1e-6)


@pytest.mark.parametrize("name", SOFT)
@pytest.mark.parametrize(("weight", "temperature"), [(0.5, 2.0), (0.0, 1.0), (0.3, 4.0)])
def test_value_and_gradients_are_those_of_the_formula_with_all_logits_at_once(
    name: str, weight: float, temperature: float
) -> None:
    student, teacher, labels = outputs(3, 7, seed=0), outputs(3, 7, seed=9), some_labels(3, 7)
    assert student.head is not None
    expected = at_once(student, teacher, labels, objective=name, weight=weight, temperature=temperature)
    gradients = torch.autograd.grad(expected, [student.states, *student.head.parameters()])
    found = value_and_gradients(
        student, teacher, labels, objective=name, hard_weight=weight, temperature=temperature, chunk=4
    )
    assert_close(found, [expected.detach(), *gradients])


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    student, teacher, labels = outputs(2, 4, seed=0), outputs(2, 4, seed=9), some_labels(2, 4)

    def value(states: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return loss(Outputs(states, student.head), teacher, labels, objective=name, chunk=2)

    assert student.head is not None
    assert torch.autograd.gradcheck(value, (student.states, *student.head.parameters()))


@settings(max_examples=40)
@given(
    n_texts=st.integers(1, 3),
    n_tokens=st.integers(1, 9),
    chunk=st.integers(1, 30),
    name=st.sampled_from(list(OBJECTIVES)),
    seed=st.integers(0, 9),
)
def test_chunks_change_nothing_whatever_the_number_of_tokens(
    n_texts: int, n_tokens: int, chunk: int, name: str, seed: int
) -> None:
    student, teacher = outputs(n_texts, n_tokens, seed=0), outputs(n_texts, n_tokens, seed=9)
    labels = some_labels(n_texts, n_tokens, seed=seed)
    found, expected = (
        value_and_gradients(student, teacher, labels, objective=name, n_targets=7, chunk=size) for size in (chunk, 1000)
    )
    assert_close(found, expected)


@settings(max_examples=20)
@given(split=st.integers(1, 4), padded=st.integers(0, 4), name=st.sampled_from(list(OBJECTIVES)))
def test_a_split_batch_and_its_padding_give_the_same_sum_and_the_same_gradients(
    split: int, padded: int, name: str
) -> None:
    student, teacher, labels = outputs(5, 7, seed=0), outputs(5, 7, seed=9), some_labels(5, 7)
    n_targets = count_targets(predicted(labels))
    whole = value_and_gradients(student, teacher, labels, objective=name)
    halves = []
    for part in (slice(None, split), slice(split, None)):
        mine, its = (
            Outputs(functional.pad(o.states[part], (0, 0, 0, padded), value=3.0), o.head) for o in (student, teacher)
        )
        longer = functional.pad(labels[part], (0, padded), value=IGNORED)
        assert student.head is not None
        value = loss(mine, its, longer, objective=name, n_targets=n_targets)
        gradients = torch.autograd.grad(value, [student.states, *student.head.parameters()])
        halves.append([value.detach(), *gradients])
    assert_close([a + b for a, b in zip(*halves, strict=True)], whole)


def test_padding_on_the_left_changes_nothing_either() -> None:
    student, teacher, labels = outputs(2, 6, seed=0), outputs(2, 6, seed=9), torch.arange(12).reshape(2, 6) % WORDS
    labels[:, 0] = IGNORED  # behind padding a text's first token would be predicted from it
    longer = functional.pad(labels, (3, 0), value=IGNORED)
    pair = (Outputs(functional.pad(o.states, (0, 0, 3, 0), value=3.0), o.head) for o in (student, teacher))
    assert loss(next(pair), next(pair), longer).item() == pytest.approx(loss(student, teacher, labels).item())


def test_accumulated_gradients_add_up_in_weights_that_the_body_shares_with_the_head() -> None:
    embedding = torch.nn.Embedding(WORDS, WIDTH, dtype=torch.float64)
    head = torch.nn.Linear(WIDTH, WORDS, bias=False, dtype=torch.float64)
    head.weight = embedding.weight
    ids, teacher = some_labels(4, 6).clamp(min=0), outputs(4, 6, seed=9)
    at_once(Outputs(embedding(ids), head), teacher, ids, objective="jsd", weight=0.5, temperature=2.0).backward()
    assert embedding.weight.grad is not None
    expected = embedding.weight.grad.clone()
    embedding.weight.grad = None
    for row in range(4):
        taught = Outputs(teacher.states[row : row + 1], teacher.head)
        part = ids[row : row + 1]
        loss(Outputs(embedding(part), head), taught, part, objective="jsd", n_targets=20, chunk=3).backward()
    torch.testing.assert_close(embedding.weight.grad, expected)


def test_the_temperatures_factor_keeps_the_soft_gradient_at_its_limit() -> None:
    """For large T the gradient in a logit tends to the centred difference of the logits over the vocabulary's size."""
    logits, taught = draw(1, 2, WORDS, seed=1), draw(1, 2, WORDS, seed=2)
    centred = (logits - logits.mean(-1, keepdim=True)) - (taught - taught.mean(-1, keepdim=True))
    for name, factor in [("forward-kl", 1.0), ("reverse-kl", 1.0), ("jsd", 0.25), ("skew-kl", 0.81)]:
        for temperature in (1e3, 1e4):
            student = logits.clone().requires_grad_()
            loss(
                Outputs(student), Outputs(taught), torch.tensor([[0, 1]]),
                objective=name, hard_weight=0.0, temperature=temperature,
            ).backward()  # fmt: skip
            assert student.grad is not None
            torch.testing.assert_close(student.grad[0, 0], factor * centred[0, 0] / WORDS, rtol=2e-2, atol=1e-3)
            assert not student.grad[0, 1].any()


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_ground_truth_alone_is_the_models_own_loss_and_needs_no_teacher(architecture: str) -> None:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny.config(architecture)).eval()
    ids = torch.randint(1, tiny.VOCABULARY, (3, 12))
    labels = ids.clone()
    labels[0, 7:] = labels[1, :3] = IGNORED
    model(input_ids=ids, labels=labels, num_items_in_batch=40).loss.backward()
    expected = [weight.grad.clone() for weight in model.parameters()]
    own = model(input_ids=ids, labels=labels, num_items_in_batch=40).loss
    model.zero_grad()
    states = getattr(model, model.base_model_prefix)(input_ids=ids).last_hidden_state
    student = Outputs(states, model.get_output_embeddings())
    by_weight = loss(student, None, labels, hard_weight=1.0, n_targets=40)
    found = loss(student, None, labels, objective="hard", n_targets=torch.tensor(40), chunk=5)
    assert by_weight.item() == pytest.approx(own.item(), rel=1e-6)
    assert found.item() == pytest.approx(own.item(), rel=1e-6)
    found.backward()
    assert_close([weight.grad for weight in model.parameters()], expected, within=1e-5)
    assert count_targets(predicted(labels)) == 3 * 11 - 5 - 2


def test_no_weight_on_the_ground_truth_reads_nothing_from_the_labels_but_where_targets_are() -> None:
    student, teacher, labels = outputs(2, 6, seed=0), outputs(2, 6, seed=9), some_labels(2, 6)
    nonsense = torch.where(labels == IGNORED, IGNORED, 10**6)
    found = value_and_gradients(student, teacher, nonsense, hard_weight=0.0)
    assert_close(found, value_and_gradients(student, teacher, labels, hard_weight=0.0))


def test_the_teacher_gets_no_gradient_and_one_weight_alone_asks_for_it() -> None:
    student, teacher, labels = outputs(2, 6, seed=0), outputs(2, 6, seed=9), some_labels(2, 6)
    asked: list[int] = []
    assert teacher.head is not None
    teacher.head.register_forward_hook(lambda *_: asked.append(1))
    loss(student, teacher, labels, hard_weight=1.0).backward()
    assert not asked
    loss(student, teacher, labels).backward()
    assert asked
    assert teacher.states.grad is None
    assert all(weight.grad is None for weight in teacher.head.parameters())


def test_frozen_weights_of_the_head_stay_frozen() -> None:
    student, teacher, labels = outputs(2, 6, seed=0), outputs(2, 6, seed=9), some_labels(2, 6)
    expected = value_and_gradients(student, teacher, labels)[1]
    assert student.head is not None
    student.head.requires_grad_(False)
    loss(student, teacher, labels).backward()
    assert all(weight.grad is None for weight in student.head.parameters())
    torch.testing.assert_close(student.states.grad, expected)


def test_a_batch_without_targets_gives_0_and_gradients_of_0() -> None:
    student, teacher = outputs(2, 6, seed=0), outputs(2, 6, seed=9)
    found = value_and_gradients(student, teacher, torch.full((2, 6), IGNORED), n_targets=10)
    assert_close(found, [torch.zeros_like(tensor) for tensor in found])


def test_a_models_own_logits_serve_where_it_has_no_separate_head() -> None:
    student, teacher, labels = outputs(2, 6, seed=0), outputs(2, 6, seed=9), some_labels(2, 6)
    assert student.head is not None
    assert teacher.head is not None
    expected = value_and_gradients(student, teacher, labels)
    value = loss(Outputs(student.head(student.states)), Outputs(teacher.head(teacher.states)), labels, chunk=3)
    gradients = torch.autograd.grad(value, [student.states, *student.head.parameters()])
    assert_close([value.detach(), *gradients], expected)


def test_evaluation_without_gradients_gives_the_same_value() -> None:
    student, teacher, labels = outputs(2, 6, seed=0), outputs(2, 6, seed=9), some_labels(2, 6)
    with torch.no_grad():
        found = loss(student, teacher, labels, chunk=3)
    assert not found.requires_grad
    assert found.item() == pytest.approx(loss(student, teacher, labels).item(), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_go_through_float32(dtype: torch.dtype) -> None:
    """Values and gradients of many chunks differ from one by the rounding of a result, not by that of every sum."""
    logits, taught, labels = draw(1, 65, 500, seed=1).to(dtype), draw(1, 65, 500, seed=2).to(dtype), torch.ones(1, 65)
    student = logits.clone().requires_grad_()
    found = loss(Outputs(student), Outputs(taught), labels.long(), chunk=7)
    assert found.dtype == torch.float32
    wide = logits.float().requires_grad_()
    expected = loss(Outputs(wide), Outputs(taught.float()), labels.long())
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    found.backward()
    expected.backward()
    assert student.grad is not None
    assert wide.grad is not None
    torch.testing.assert_close(student.grad.float(), wide.grad, rtol=2e-2, atol=1e-6)


def test_a_bfloat16_heads_gradient_is_summed_over_chunks_in_float32() -> None:
    student, labels = outputs(1, 257, seed=0, dtype=torch.bfloat16), torch.ones(1, 257, dtype=torch.int64)
    one, many = (value_and_gradients(student, None, labels, objective="hard", chunk=size) for size in (256, 2))
    for a, b in zip(one, many, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)


def test_under_autocast_the_loss_is_float32_and_so_are_the_gradients_of_float32_weights() -> None:
    student, teacher = (outputs(2, 9, seed=seed, dtype=torch.float32) for seed in (0, 9))
    labels = some_labels(2, 9)
    expected = value_and_gradients(student, teacher, labels)
    with torch.autocast("cpu", torch.bfloat16):
        found = value_and_gradients(student, teacher, labels, chunk=4)
    assert {tensor.dtype for tensor in found} == {torch.float32}
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0.1, atol=0.02)


class Largest(TorchDispatchMode):
    """Records the largest tensor that any operation makes, of the forward and the backward pass."""

    n_elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.n_elements = max(self.n_elements, tensor.numel())
        return made


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_no_pass_makes_a_tensor_of_more_logits_than_a_chunk_holds(name: str) -> None:
    words, chunk = 400, 8
    student, teacher = (outputs(4, 33, seed=seed, words=words) for seed in (0, 9))
    labels, rows = torch.ones(4, 33, dtype=torch.int64), []
    for head in (student.head, teacher.head):
        assert head is not None
        head.register_forward_hook(lambda _module, _inputs, logits: rows.append(logits.shape[0]))
    with Largest() as largest:  # type: ignore[no-untyped-call]
        loss(student, teacher, labels, objective=name, chunk=chunk).backward()
    assert max(rows) == chunk
    assert largest.n_elements == chunk * words < 4 * 32 * words


@pytest.mark.parametrize("cut", ["teacher", "student"])
def test_the_divergence_over_the_shared_words_is_that_without_the_tail(cut: str) -> None:
    short, long = outputs(2, 6, seed=0), outputs(2, 6, seed=9, words=WORDS + 3)
    labels = some_labels(2, 6)
    assert isinstance(long.head, torch.nn.Linear)
    without = torch.nn.Linear(WIDTH, WORDS, dtype=torch.float64)
    with torch.no_grad():
        without.weight.copy_(long.head.weight[:WORDS])
        without.bias.copy_(long.head.bias[:WORDS])
    pairs = [(short, long), (short, Outputs(long.states, without))]
    if cut == "student":
        pairs = [(long, short), (Outputs(long.states, without), short)]
    found, expected = (loss(*pair, labels, hard_weight=0.0, vocabulary=WORDS) for pair in pairs)
    assert found.item() == pytest.approx(expected.item())
    with pytest.raises(RuntimeError, match="size"):
        loss(*pairs[0], labels)


def written_down(teacher: Outputs, labels: torch.Tensor, k: int, temperature: float) -> CachedOutputs:
    """What a cache of `k` words holds, taken from the logits directly."""
    assert teacher.head is not None
    logits = teacher.head(teacher.states).flatten(0, 1)[target_rows(predicted(labels))].detach()
    scores = (logits / temperature).log_softmax(-1)
    log_probs, words = scores.topk(k)
    rest = 1 - log_probs.exp().sum(-1)
    return CachedOutputs(words, log_probs, rest.clamp(min=0).log())


@pytest.mark.parametrize("name", SOFT)
def test_a_cache_of_the_whole_vocabulary_is_the_live_teacher(name: str) -> None:
    student, teacher, labels = outputs(2, 6, seed=0), outputs(2, 6, seed=5), some_labels(2, 6)
    live = value_and_gradients(student, teacher, labels, objective=name)
    cached = value_and_gradients(student, written_down(teacher, labels, WORDS, 2.0), labels, objective=name)
    assert_close(cached, live)


@pytest.mark.parametrize("name", SOFT)
def test_a_shorter_cache_takes_all_other_words_for_one(name: str) -> None:
    student, teacher, labels = outputs(2, 6, seed=0), outputs(2, 6, seed=5), some_labels(2, 6)
    cached = written_down(teacher, labels, 4, 2.0)
    assert student.head is not None
    rows = target_rows(predicted(labels))
    learnt = (student.head(student.states).flatten(0, 1)[rows] / 2).softmax(-1)
    own = learnt.gather(-1, cached.words)
    pairs = [
        torch.cat([top, rest.unsqueeze(-1)], -1).log()
        for top, rest in ((cached.log_probs.exp(), cached.log_rest.exp()), (own, 1 - own.sum(-1)))
    ]
    divergence = OBJECTIVES[name].divergence
    assert divergence is not None
    expected = 4 * divergence(pairs[0], pairs[1], OBJECTIVES[name].beta or 0.0).mean()
    found = loss(student, cached, labels, objective=name, hard_weight=0.0)
    torch.testing.assert_close(found, expected)
    whole = loss(student, teacher, labels, objective=name, hard_weight=0.0)
    assert found < whole  # what is seen together can differ by less
    assert all(torch.isfinite(grad).all() for grad in value_and_gradients(student, cached, labels, objective=name))


def test_the_size_of_a_chunk_changes_nothing_for_a_cached_teacher() -> None:
    student, teacher, labels = outputs(2, 6, seed=0), outputs(2, 6, seed=5), some_labels(2, 6)
    cached = written_down(teacher, labels, 4, 2.0)
    assert_close(*(value_and_gradients(student, cached, labels, chunk=chunk) for chunk in (1, 100)))


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_label_smoothing_spreads_the_ground_truth_over_all_words(share: float) -> None:
    student, labels = outputs(2, 6, seed=0), some_labels(2, 6)
    assert student.head is not None
    rows = target_rows(predicted(labels))
    scores = student.head(student.states).flatten(0, 1)[rows].log_softmax(-1)
    at_target = scores.gather(-1, labels.flatten()[rows + 1].unsqueeze(-1)).squeeze(-1)
    expected = -((1 - share) * at_target + share * scores.mean(-1)).mean()
    torch.testing.assert_close(loss(student, None, labels, objective="hard", label_smoothing=share), expected)
