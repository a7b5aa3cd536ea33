"""Texts are split without losing a byte, and cut between characters where every model can follow."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from kdaudit.targets.passage import encode, lead_ids
from kdaudit.views.cut import common_cut
from tests import tiny

ODD_TEXTS = [
    "", "a", "é", "中文", "👩\u200d👧 family", "e\u0301 combining", "a\rb\r\nc\r", "  leading", "trailing   ", "\n\n\n",
    "naïve café 中", "İstanbul", "\u200b", "\ufeffbom", "\U0001d518\U0001d52b\U0001d526", "a\x00b",
]  # fmt: skip
texts = st.one_of(
    st.text(max_size=40).filter(lambda text: not any("\ud800" <= char <= "\udfff" for char in text)),
    st.lists(st.sampled_from([*tiny.WORDS, *ODD_TEXTS, " ", "\n"]), max_size=12).map(" ".join),
)


def wordwise() -> Any:
    """A tokenizer of another kind: words and punctuation, normalised, in a vocabulary with an unknown token."""
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, **{w.lower(): i for i, w in enumerate(tiny.WORDS, 1)}}, "[UNK]"))
    backend.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")


def like_llama() -> Any:
    """A tokenizer that writes a space as a letter, puts one in front, and spells what it does not know in bytes."""
    letters = sorted({*"".join(tiny.WORDS), "▁"})
    vocabulary = {name: i for i, name in enumerate(["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters])}
    merges = [("t", "h"), ("▁", "th"), ("▁", "a"), ("i", "n")]
    vocabulary |= {first + second: len(vocabulary) + i for i, (first, second) in enumerate(merges)}
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def like_roberta() -> Any:
    """A tokenizer whose offsets leave the white space around a token out."""
    backend = Tokenizer.from_str(tiny.tokenizer().backend_tokenizer.to_str())
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    return PreTrainedTokenizerFast(tokenizer_object=backend)


TOKENIZERS = [tiny.tokenizer(), tiny.tokenizer(bos=True, seed=5), wordwise(), like_llama(), like_roberta()]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["bytes", "bytes and BOS", "words", "like Llama", "like RoBERTa"])
@given(texts)
def test_offsets_never_fall_and_end_with_the_text(tokenizer: Any, text: str) -> None:
    (passage,) = encode(tokenizer, [text])
    assert passage.ids.shape == passage.char_end.shape == passage.byte_end.shape
    for ends, whole in ((passage.char_end, len(text)), (passage.byte_end, len(text.encode()))):
        assert (np.diff(ends) >= 0).all()
        assert not ends.size or ends[-1] == whole
    assert [len(text[:end].encode()) for end in passage.char_end] == passage.byte_end.tolist()


def test_a_token_without_a_place_in_the_text_ends_where_the_one_before_it_does() -> None:
    class Encoded(dict[str, Any]):
        def word_ids(self, _: int) -> list[int | None]:
            return [0, None, 1, 1]

    def tokenizer(texts: list[str], **_: Any) -> Encoded:
        return Encoded(input_ids=[[5, 6, 7, 8]], offset_mapping=[[(0, 2), (0, 0), (2, 3), (3, 3)]])

    (passage,) = encode(tokenizer, ["aé c"])
    assert passage.words is not None
    assert len({*passage.words.tolist()}) == 3, "a token that belongs to no word is one by itself"
    assert passage.char_end.tolist() == [2, 2, 3, 4]
    assert passage.byte_end.tolist() == [3, 3, 4, 5]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_tokens_are_those_of_the_tokenizer_without_special_ones(text: str) -> None:
    for tokenizer in TOKENIZERS:
        assert encode(tokenizer, [text])[0].ids.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_no_text_gives_no_passage() -> None:
    assert encode(tiny.tokenizer(), []) == []


def test_neither_padding_side_nor_pad_token_nor_truncation_of_a_tokenizer_matters() -> None:
    sample = tiny.texts(4, seed=0)
    expected = [passage.ids.tolist() for passage in encode(tiny.tokenizer(), sample)]
    backend = Tokenizer.from_str(tiny.tokenizer().backend_tokenizer.to_str())
    backend.enable_truncation(5)
    backend.enable_padding(length=200, direction="left")
    for settings in ({"padding_side": "left", "pad_token": "<s>"}, {"model_max_length": 4}):
        other = PreTrainedTokenizerFast(tokenizer_object=backend, **settings)
        assert [passage.ids.tolist() for passage in encode(other, sample)] == expected


@given(texts, st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12)), min_size=1, max_size=3))
def test_a_cut_leaves_whole_characters_that_every_tokenizer_has_room_for(text: str, given: list[Any]) -> None:
    tokenizers = [TOKENIZERS[which] for which, _ in given]
    rooms = [room for _, room in given]
    passages = [encode(tokenizer, [text])[0] for tokenizer in tokenizers]
    cut = common_cut(passages, rooms, n_chars=len(text))
    assert 0 <= cut <= len(text)
    for passage, room in zip(passages, rooms, strict=True):
        head = passage.head(cut)
        assert head.ids.size <= room
        assert head.ids.tolist() == passage.ids[: head.ids.size].tolist()
        assert (passage.char_end[head.ids.size :] > cut).all(), "a token of a character that is cut is cut too"


@given(texts, st.integers(0, 5))
def test_a_text_that_fits_is_not_cut(text: str, spare: int) -> None:
    passages = [encode(tokenizer, [text])[0] for tokenizer in TOKENIZERS]
    rooms = [passage.ids.size + spare for passage in passages]
    assert common_cut(passages, rooms, n_chars=len(text)) == len(text)
    assert [passage.head(len(text)).ids.size for passage in passages] == [passage.ids.size for passage in passages]


def test_the_model_that_stops_first_decides_for_all() -> None:
    text = " ".join(tiny.WORDS)
    passages = [encode(tokenizer, [text])[0] for tokenizer in TOKENIZERS]
    cuts = [common_cut([passage], [10], n_chars=len(text)) for passage in passages]
    assert len(set(cuts)) > 1
    assert common_cut(passages, [10] * len(TOKENIZERS), n_chars=len(text)) == min(cuts)


@pytest.mark.parametrize(("room", "cut"), [(0, 0), (1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2), (7, 3), (8, 4)])
def test_a_character_of_several_tokens_is_kept_whole_or_not_at_all(room: int, cut: int) -> None:
    text = "a頭鷹b"  # three bytes each, none of them in a merge
    (passage,) = encode(tiny.tokenizer(), [text])
    assert passage.char_end.tolist() == [1, 2, 2, 2, 3, 3, 3, 4]
    assert passage.byte_end.tolist() == [1, 4, 4, 4, 7, 7, 7, 8]
    assert common_cut([passage], [room], n_chars=len(text)) == cut


def with_specials(template: str) -> Any:
    backend = Tokenizer.from_str(tiny.tokenizer().backend_tokenizer.to_str())
    backend.add_special_tokens(["</s>", "<mode>"])
    specials = [(name, backend.token_to_id(name)) for name in ("<s>", "</s>", "<mode>")]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=specials)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize(
    ("template", "expected"),
    [("$A", []), ("<s> $A", ["<s>"]), ("$A </s>", []), ("<s> $A </s>", ["<s>"]), ("<s> <mode> $A", ["<s>", "<mode>"])],
)
def test_the_lead_is_what_a_tokenizer_puts_before_a_text(template: str, expected: list[str]) -> None:
    tokenizer = with_specials(template)
    assert list(lead_ids(tokenizer)) == tokenizer.convert_tokens_to_ids(expected)
