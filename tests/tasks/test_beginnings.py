"""The beginning of a long text has the tokens that the whole text begins with, whatever the tokenizer and the text."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from adapterkit.base.checkpoint import find_base
from adapterkit.tasks.beginnings import beginning
from adapterkit.tasks.windows import truncated
from adapterkit.testing import tiny
from tests.helpers.files import ROOT

LLAMA_3 = r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
FROM_THE_RIGHT = r"\d{1,3}(?=(?:\d{3})*(?:\D|$))"
LEARNED = [
    *[
        "It was a fine film, and the soup was cold. 1234567 aaaa abab xyxy ==== \n\n  ",
        "老地方的汤很冷。 Привет мир! नमस्ते",
    ]
    * 9,
    "  spaces    and more        spaces\n" * 9,
]


def trained(model: Any, trainer: type, pre: Any, normalizer: Any = None, **options: Any) -> PreTrainedTokenizerFast:
    inner = Tokenizer(model)
    inner.pre_tokenizer = pre
    if normalizer is not None:
        inner.normalizer = normalizer
    inner.train_from_iterator(
        LEARNED, trainer(vocab_size=400, special_tokens=["<unk>", "<s>"], show_progress=False, **options)
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", pad_token="<s>")


def byte_level(first: Any = None) -> Any:
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=first is None)
    return pieces if first is None else pre_tokenizers.Sequence([first, pieces])


def unigram(split: bool) -> PreTrainedTokenizerFast:
    metaspace = pre_tokenizers.Metaspace(split=split)
    return trained(models.Unigram(), trainers.UnigramTrainer, metaspace, normalizers.Nmt(), unk_token="<unk>")


def split_by(pattern: str) -> Any:
    return pre_tokenizers.Split(Regex(pattern), "isolated")


ALPHABET = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
KINDS: dict[str, Callable[[], Any]] = {
    "WordPiece of BERT": lambda: AutoTokenizer.from_pretrained(find_base("minilm")),
    "the tests' BPE": tiny.tokenizer,
    "BPE of Llama 2, without words": lambda: AutoTokenizer.from_pretrained(ROOT.parent / "shared/bases/stories260K"),
    "bytes, as GPT-2": lambda: trained(models.BPE(), trainers.BpeTrainer, byte_level(), **ALPHABET),
    "bytes, as Llama 3": lambda: trained(models.BPE(), trainers.BpeTrainer, byte_level(split_by(LLAMA_3)), **ALPHABET),
    "digits from the right": lambda: trained(
        models.BPE(), trainers.BpeTrainer, byte_level(split_by(FROM_THE_RIGHT)), **ALPHABET
    ),
    "Unigram": lambda: unigram(True),
    "Unigram of the whole text": lambda: unigram(False),
    "words": lambda: trained(
        models.WordLevel(unk_token="<unk>"), trainers.WordLevelTrainer, pre_tokenizers.Whitespace()
    ),
}
CHUNKS = st.sampled_from(
    [
        *("It was a fine film. ", "soup", " ", "   ", "\n", "\t \n", "1", "1234567", "a", "ab", "xy", "=", ". ", "汤"),
        *(
            "很冷。",
            "Привет ",
            "नमस्ते",
            "e\u0301",
            "👩\u200d👩",
            "<s>",
            "[SEP]",
            "\u200b",
            "\ufeff",
            "'s",
            "ﬁ",
            "Σ",
            "\u3000",
        ),
    ]
)
TEXTS = st.lists(st.tuples(CHUNKS, st.integers(1, 400)), min_size=1, max_size=5).map(
    lambda pairs: "".join(chunk * count for chunk, count in pairs)
)


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]()


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(text=TEXTS, tokens=st.sampled_from([8, 9, 32]))
def test_its_tokens_are_those_of_the_text(tokenizer: Any, text: str, tokens: int) -> None:
    part = beginning(tokenizer, text, tokens)
    assert text.startswith(part)
    options = {"truncation": True, "max_length": tokens}
    assert dict(tokenizer(part, **options)) == dict(tokenizer(text, **options))
    assert truncated(tokenizer, [[text]], tokens) == dict(tokenizer([text], **options))


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(text=TEXTS, other=TEXTS.map(lambda text: text[:30]), tokens=st.sampled_from([8, 33]), first=st.booleans())
def test_those_of_a_pair_are_too(tokenizer: Any, text: str, other: str, tokens: int, first: bool) -> None:
    pair = [[text], [other]] if first else [[other], [text]]
    assert truncated(tokenizer, pair, tokens) == dict(tokenizer(*pair, truncation=True, max_length=tokens))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "without" not in kind and "whole" not in kind])
def test_a_megabyte_is_cut_to_a_few_thousand_characters(kind: str) -> None:
    tokenizer = KINDS[kind]()
    text = "It was a fine film, and the soup was cold on the 12th. " * 20_000
    begun = time.perf_counter()
    part = beginning(tokenizer, text, 128)
    assert len(part) <= 128 * 16 * 4
    assert time.perf_counter() - begun < 1  # the whole text takes longer


@pytest.mark.slow
@pytest.mark.parametrize("gap", [" ", "\n", "\u200b", "=", "7"])
def test_what_follows_a_long_gap_is_part_of_it(gap: str) -> None:
    tokenizer = KINDS["WordPiece of BERT"]()
    text = f"It was {gap * 50_000} a fine film. " + "It was cold. " * 20_000
    options = {"truncation": True, "max_length": 32}
    part = beginning(tokenizer, text, 32)
    assert dict(tokenizer(part, **options)) == dict(tokenizer(text, **options))


def test_a_tokenizer_that_cuts_on_the_left_reads_the_whole_text() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.truncation_side = "left"
    text = "It was cold. " * 2_000
    assert beginning(tokenizer, text, 8) == text
