"""The same command gives the same figures: what is random or of today in a checkpoint's files."""

import datetime as clock
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from kdaudit.distill.generation import continue_all
from kdaudit.errors import ConfigError, ModelError
from kdaudit.models.chat import chat_renderer
from kdaudit.models.chat_process import prepare
from kdaudit.models.checkpoint import find
from kdaudit.models.loading import load, load_tokenizer
from kdaudit.models.repeatable import CHAT_DATE, check_repeats, read_date, switch_off_sampling
from kdaudit.records import Chat
from tests import tiny
from tests.commands import check_refused, files_in, read_texts
from tests.distill.students import Recipe, manifest_of
from tests.distill.training import some_examples

CHAT = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "good day"}]
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
DATED = "{{ strftime_now('%d %b %Y %H:%M') }}\n" + PLAIN
LLAMA = (
    "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now('%d %b %Y') %}{%- else %}"
    "{%- set date_string = '1 Jan 1970' %}{%- endif %}{%- endif %}{{ 'Today Date: ' + date_string }}\n"
    "{% macro said(m) %}{{ strftime_now('%Y') }} {{ m.content }}\n{% endmacro %}"
    "{% for m in messages %}{{ said(m) }}{% endfor %}"
)


def rendered(template: str | dict[str, str], *, today: str = CHAT_DATE) -> str:
    """As the process does that renders; here, because a process takes a second to start."""
    render, refusal = prepare(template=template, special_tokens={"eos_token": "<s>"}, today=today, at_most=1000)
    return str(render(CHAT)["texts"][1]) if not refusal else str(refusal["refusal"][0])


def having(template: str) -> Any:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tiny.tokenizer().backend_tokenizer, eos_token="<s>")
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture
def tomorrow(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Sets transformers' clock to another day."""

    class Tomorrow(clock.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return clock.datetime(2099, 12, 31, 23, 59, tzinfo=tz)

    return lambda: monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Tomorrow)


def test_a_template_that_asks_for_the_date_is_told_the_recorded_one(tomorrow: Callable[[], None]) -> None:
    today = [rendered(template) for template in (DATED, LLAMA)]
    assert today[0].startswith("26 Jul 2024 00:00\n")
    assert today[1] == "Today Date: 26 Jul 2024\n2024 hello there\n2024 good day\n"
    tomorrow()
    assert [rendered(template) for template in (DATED, LLAMA)] == today
    assert rendered(DATED, today="2030-01-02").startswith("02 Jan 2030")
    with pytest.raises(ConfigError, match="is none: 'soon'"):
        read_date("soon")


@pytest.mark.parametrize(
    "template",
    ["{{ ['a', 'b'] | random }}", "{{ [1]|random() }}", "{% filter random %}ab{% endfilter %}", "{{ lipsum() }}",
     "{{ [['a', 'b']] | map('random') | first }}", "{%- generation -%}{{ messages|random }}{%- endgeneration -%}"],
)  # fmt: skip
def test_a_template_that_draws_by_chance_is_refused(template: str) -> None:
    for given in (template + PLAIN, {"default": PLAIN, "tools": template}):
        assert "draws by chance" in rendered(given)


def test_chance_in_a_template_is_refused_where_chats_are_rendered() -> None:
    with pytest.raises(ConfigError, match="draws by chance"), chat_renderer(lambda: having("{{ lipsum() }}")) as render:
        render(Chat(CHAT))


@pytest.mark.parametrize("words", ["a | random text, lipsum()\n", "{{ 'random' }}", "{{ messages[0].lipsum or 'x' }}"])
def test_words_that_only_look_like_chance_are_text(words: str) -> None:
    assert "good day" in rendered(words + PLAIN)


def test_a_template_that_shows_an_address_is_refused() -> None:
    template = "{{ messages | map(attribute='role') }}" + PLAIN
    with chat_renderer(lambda: having(template)) as render, pytest.raises(ValueError, match="lies in memory"):
        render(Chat(CHAT))


def dated(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with a teacher whose template asks for the date, and chats to learn."""
    rows = [
        {"id": name, "messages": [{"role": "user", "content": text[:9]}, {"role": "assistant", "content": text}]}
        for name, text in read_texts(recipe.train).items()
    ]
    train = folder / "chats.jsonl"
    train.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    teacher = Path(shutil.copytree(recipe.teacher, folder / "teacher"))
    (teacher / "chat_template.jinja").write_text(DATED, encoding="utf-8")
    return Recipe(teacher, recipe.start, train)


def test_a_student_distilled_today_is_audited_and_made_again_tomorrow(
    recipe: Recipe, tmp_path: Path, tomorrow: Callable[[], None]
) -> None:
    chatty = dated(recipe, tmp_path)
    assert chatty.distill(tmp_path / "student").code == 0
    before = files_in(tmp_path / "student")
    assert manifest_of(tmp_path / "student")["training"]["chat_date"] == CHAT_DATE
    tomorrow()
    done = chatty.attack(tmp_path / "student", tmp_path / "run")
    assert done.code == 0, done.err
    compute = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))["compute"]
    assert compute["chat_date"] == CHAT_DATE
    assert chatty.distill(tmp_path / "student").code == 0
    assert files_in(tmp_path / "student") == before


def test_the_date_that_a_manifest_recorded_counts(recipe: Recipe, tmp_path: Path) -> None:
    chatty = dated(recipe, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdaudit.distill.settings.DistillConfig.__init__", _dating("2031-05-06"))
        assert chatty.distill(tmp_path / "student").code == 0
    assert manifest_of(tmp_path / "student")["training"]["chat_date"] == "2031-05-06"
    done = chatty.attack(tmp_path / "student", tmp_path / "run")
    assert done.code == 0, done.err


def _dating(day: str) -> Any:
    from kdaudit.distill.settings import DistillConfig

    original = DistillConfig.__init__

    def construct(self: Any, **options: Any) -> None:
        original(self, **{"chat_date": day, **options})

    return construct


def test_dropout_of_a_tokenizer_is_off(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint(seed=1), tmp_path / "dropping"))
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["dropout"] = 0.5
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    text = "the patient reports pain in left knee since Monday"
    raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert len({tuple(raw.encode(text).ids) for _ in range(20)}) > 1
    plain = load_tokenizer(find(str(checkpoint(seed=1)), option="--teacher"))(text)["input_ids"]
    dropping = load_tokenizer(find(str(folder), option="--teacher"))
    assert {tuple(dropping(text)["input_ids"]) for _ in range(20)} == {tuple(plain)}
    dropping.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "tokenizer.json").read_text(encoding="utf-8"))["model"]["dropout"] is None


def test_sampling_of_a_unigram_tokenizer_is_off() -> None:
    pieces = [(piece, -1.0) for piece in ("▁", "a", "b", "ab", "ba", "aba", "▁a", "▁ab")]
    made = Tokenizer(models.Unigram([("<unk>", 0.0), *pieces], unk_id=0, alpha=0.1, nbest_size=64))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made)
    tokenizer._tokenizer = made  # transformers works on a copy, which has forgotten the setting
    assert len({tuple(tokenizer("abababab")["input_ids"]) for _ in range(50)}) > 1
    switch_off_sampling(tokenizer)
    assert len({tuple(tokenizer("abababab")["input_ids"]) for _ in range(50)}) == 1


class Noisy(transformers.LlamaForCausalLM):
    """Adds noise in eval mode too, as code that a checkpoint brings might."""

    def forward(self, *args: Any, **options: Any) -> Any:
        found = super().forward(*args, **options)
        found.logits = found.logits + torch.randn_like(found.logits)
        return found


def test_a_model_that_draws_by_chance_is_refused_when_it_is_loaded(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = find(str(checkpoint("llama", seed=1)), option="--teacher")
    before = torch.get_rng_state()
    load(folder, device="cpu", dtype="float32")
    assert torch.equal(torch.get_rng_state(), before)
    monkeypatch.setattr("kdaudit.models.loading.loader", lambda _: (Noisy, {}))
    with pytest.raises(ModelError, match="draws by chance"):
        load(folder, device="cpu", dtype="float32")


def test_random_hashes_of_reformer_are_refused_and_a_seed_of_their_own_is_the_way_out() -> None:
    shape: dict[str, Any] = {
        "is_decoder": True, "attn_layers": ["lsh", "local"], "axial_pos_embds": False, "hidden_size": 32,
        "vocab_size": 300, "num_attention_heads": 2, "attention_head_size": 16, "feed_forward_size": 32,
        "max_position_embeddings": 256, "lsh_attn_chunk_length": 16, "local_attn_chunk_length": 16, "num_buckets": 4,
    }  # fmt: skip
    with pytest.raises(ModelError, match=r"Reformer draws by chance.*"):
        check_repeats(_loud(transformers.ReformerConfig(**shape)), "Reformer")
    check_repeats(_loud(transformers.ReformerConfig(**shape, hash_seed=1)), "Reformer")


def _loud(config: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim > 1:
                    weight.mul_(10)
    return model


def test_what_a_checkpoint_says_of_generation_changes_nothing_that_is_written() -> None:
    """transformers fills in whatever a caller leaves unset by the checkpoint's own generation_config.json."""
    model, examples = tiny.model("llama", seed=1), some_examples(4)
    plain = [one.ids.tolist() for one in continue_all(model, examples, n_lead=0, end=None, seed=1)]
    own = transformers.GenerationConfig(
        min_p=0.9, no_repeat_ngram_size=1, typical_p=0.1, suppress_tokens=[1, 2, 3], epsilon_cutoff=0.5, do_sample=True
    )
    model.generation_config = own
    assert [one.ids.tolist() for one in continue_all(model, examples, n_lead=0, end=None, seed=1)] == plain
    assert model.generation_config is own


def test_a_broken_date_in_a_manifest_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    assert recipe.distill(tmp_path / "student").code == 0
    path = tmp_path / "student" / "kdaudit.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for date, words in (("soon", "the date that chat templates were told"), (["soon"], "training.chat_date is not")):
        content["training"]["chat_date"] = date
        path.write_text(json.dumps(content), encoding="utf-8")
        check_refused(recipe.attack(tmp_path / "student", tmp_path / "run"), words)
