"""Files of word vectors are bases: each format is read exactly, refused where damaged, and carries adapters."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional

from adapterkit import AdapterkitError, Base, Registry, predict, run
from adapterkit.base import word_vector_files, word_vectors
from adapterkit.errors import BaseModelError, StrategyError
from tests.helpers import tolerance
from tests.helpers.bases import same, state
from tests.helpers.plans import plan

WORDS = ["the", "naïve", "food", "東京", "...", "1998", "film", "</s>"]
FORMATS = ["text", "headless", "binary", "binary-lines", "vec"]


def numbers(rows: int = len(WORDS), dim: int = 5, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, dim)) * 10.0 ** random.integers(-20, 20, size=(rows, dim))
    return np.asarray(values, dtype=np.float32)


def table(kind: str, words: Sequence[Any], values: np.ndarray) -> bytes:
    """Write a table as word2vec (text, binary), gensim (binary without line ends), GloVe and fastText do."""
    header = f"{len(words)} {values.shape[1]}\n".encode()
    if kind.startswith("binary"):
        end = b"\n" if kind == "binary-lines" else b""
        rows = (f"{w} ".encode() + v.astype("<f4").tobytes() + end for w, v in zip(words, values, strict=True))
        return header + b"".join(rows)
    end = b" \n" if kind == "vec" else b"\n"
    rows = (f"{w} {' '.join(map(str, v))}".encode() + end for w, v in zip(words, values, strict=True))
    return (b"" if kind == "headless" else header) + b"".join(rows)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def written(data: bytes, name: str = "vectors") -> str:
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    return written


def pooled(base: Base, texts: list[str]) -> torch.Tensor:
    found: torch.Tensor = base.model(**base.tokenizer(texts, padding=True, return_tensors="pt")).pooler_output
    return found


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_values_that_were_written(
    kind: str, compressed: bool, write: Callable[..., str]
) -> None:
    values = numbers()
    data = table(kind, WORDS, values)
    base = Base.load(write(gzip.compress(data, mtime=0) if compressed else data))  # no ending says what it is
    own = base.model.embeddings.weight
    assert torch.equal(own[: len(WORDS)], torch.from_numpy(values))
    assert torch.equal(own[len(WORDS)], torch.from_numpy(values.mean(0, dtype=np.float64).astype(np.float32)))
    assert torch.equal(own[len(WORDS) + 1], torch.zeros(5))
    tokens = [*WORDS, "<unk>", "<pad>"]
    assert base.tokenizer.convert_tokens_to_ids(tokens) == list(range(len(tokens)))
    assert (base.tokenizer.unk_token_id, base.tokenizer.pad_token_id) == (len(WORDS), len(WORDS) + 1)
    assert base.model.config.vocab_size == len(base.tokenizer) == len(tokens)
    assert ", 0 blocks, " in base.describe()
    assert not any(p.requires_grad for p in base.model.parameters())
    assert not base.model.training


@pytest.mark.parametrize("kind", ["text", "binary", "binary-lines"])
@pytest.mark.parametrize("dim", [1, 2, 300])
def test_binary_and_text_are_told_apart(kind: str, dim: int, write: Callable[..., str]) -> None:
    for seed in range(30):
        values = numbers(3, dim, seed).astype(np.float32)
        _, found = word_vector_files.read(write(table(kind, WORDS[:3], values)))
        assert np.array_equal(found[:3], values), seed


def test_floats_that_look_like_line_ends_spaces_and_digits_are_floats(write: Callable[..., str]) -> None:
    for raw in (b"\n\n\n\n", b"    ", b"1 2\n", b"\n1 \n", b"\x00\x00\x00\x00"):
        values = np.frombuffer(raw * 3 + b"\x00\x00\x80\x3f" * 3, "<f4").reshape(2, 3)
        for kind in ("binary", "binary-lines"):
            words, found = word_vector_files.read(write(table(kind, ["a", "b"], values)))
            assert words == {"a": 0, "b": 1}
            assert np.array_equal(found[:2], values)


@pytest.mark.parametrize("rows", [1023, 1024, 1025, 1026, 1027, 1028, 5000])
def test_more_rows_than_there_was_room_for_are_all_read(rows: int, write: Callable[..., str]) -> None:
    values = numbers(rows, 3)
    words, found = word_vector_files.read(write(table("headless", [f"w{i}" for i in range(rows)], values)))
    assert list(words.values()) == list(range(rows))
    assert np.array_equal(found[:rows], values)
    assert len(found) >= rows + 2  # for unknown words and padding


def test_a_binary_table_larger_than_one_read_is_whole(write: Callable[..., str]) -> None:
    values = numbers(9000, 50)
    words, found = word_vector_files.read(write(table("binary", [f"w{i}" for i in range(9000)], values)))
    assert list(words) == [f"w{i}" for i in range(9000)]
    assert np.array_equal(found[:9000], values)


def test_words_with_spaces_are_words_and_of_a_word_twice_the_first_row_counts(write: Callable[..., str]) -> None:
    words, found = word_vector_files.read(write(b"a 1 2\n. . . 3 4\nat b@c.org 5 6\na 7 8\n\nb\t9\t10\r\n"))
    assert words == {"a": 0, ". . .": 1, "at b@c.org": 2, "b": 3}
    assert found[:4].tolist() == [[1, 2], [3, 4], [5, 6], [9, 10]]
    assert word_vector_files.read(write(b"2 2\na 1 2\na 3 4\n"))[0] == {"a": 0}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a 1 2\nb 3\n", ":2: 1 numbers after 'b', expected 2 as in the first row"),
        (b"a 1 2\nb 3 4 5\n", ":2: 3 numbers after 'b', expected 2 as in the first row"),
        (b"2 3\na 1 2\nb 3 4\n", ":2: 2 numbers after 'a', expected 3 as in the header"),
        (b"a 1 2\nb 3 x4\n", ":2: 'x4' after 'b' is not a number"),
        (b"2 2\na 1 2\nb 3 nan\n", ":3: a number after 'b' is not finite in float32"),
        (b"2 2\na 1 2\nb 3 1e39\n", ":3: a number after 'b' is not finite in float32"),
        (b"3 2\na 1 2\nb 3 4\n", ": the header announces 3 rows, but the file has 2"),
        (b"1 2\na 1 2\nb 3 4\n", ": the header announces 1 rows, but the file has 2"),
        (b"3 2\n", ": no rows; the header announces 3"),
        (b"0 2\n", ": no rows; the header announces 0"),
        (b"3 9999999999\na 1 2\n", ": the header announces rows of 9999999999 numbers, more than the file can hold"),
        (
            table("binary", WORDS, numbers())[:-1],
            ": row 8 of 8: the file ends within the row; expected a word and 5 floats",
        ),
        (table("binary-lines", WORDS, numbers())[:60], ": row 3 of 8: the file ends within the row"),
        (
            table("binary", WORDS, numbers()) + b"\nx 1234",
            ": the header announces 8 rows of 5 floats, but more data follows",
        ),
        (b"9" + table("binary", WORDS, numbers()), ": row 9 of 98: the file ends within the row"),
        (table("binary", WORDS, numbers() * np.float32("nan")), ": row 1 of 8: a number after 'the' is not finite"),
        (
            gzip.compress(table("binary", range(9000), numbers(9000, 50)), mtime=0)[:-20],
            ": can't be read to its end: Compressed",
        ),
    ],
)
def test_a_damaged_table_is_refused_in_a_line(data: bytes, message: str, write: Callable[..., str]) -> None:
    path = write(data)
    with pytest.raises(BaseModelError) as caught:
        Base.load(path)
    assert f"{path}{message}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty"),
        (b'{"model_type": "bert"}\n', 'begins with \'{"model_type": "bert"}\''),
        (b"text,label\ngood,1\n", "begins with 'text,label'"),
        (b"Chapter 1\n\nIt was 3 in the morning.\n", "begins with 'Chapter 1'"),
        (b"PK\x03\x04rest", "is a zip archive, to be unpacked first"),
        (b"\x80\x04\x95rest", "is a pickle, which can hold code"),
        (b"\xba\x16\x4f\x2f\x0c\x00\x00\x00", "is a fastText model, whose vectors are in the .vec beside it"),
        (b"\x1f\x8brest", "can't be read: "),
        (gzip.compress(b"a 1 2\nb 3 4\n", mtime=0)[:-9], "can't be read: Compressed file ended"),
        (bytes(range(256)), "begins with "),
    ],
)
def test_a_file_of_something_else_is_no_base(data: bytes, what: str, write: Callable[..., str]) -> None:
    path = write(data)
    with pytest.raises(BaseModelError, match=r"^[^\n]*$") as caught:
        Base.load(path)
    assert str(caught.value).startswith(f"'{path}' is a file; a base is a folder with config.json, a Hub id, ")
    assert f"; the file {what}" in str(caught.value)


@pytest.fixture
def base(write: Callable[..., str]) -> Base:
    return Base.load(write(b"the 1 2\ncat 3 4\nsat -5 0.5\n, 8 -2\n"))


def test_a_text_is_the_mean_of_its_words(base: Base) -> None:
    batch = base.tokenizer(["The CAT, sat", "cat"], padding=True, return_tensors="pt")
    found = base.model(**batch)
    assert found.last_hidden_state.shape == (2, 4, 2)
    assert found.last_hidden_state[0].tolist() == [[1, 2], [3, 4], [8, -2], [-5, 0.5]]
    assert found.pooler_output.tolist() == [[7 / 4, 4.5 / 4], [3, 4]]


def test_what_is_masked_does_not_count(base: Base) -> None:
    ids = torch.tensor([[0, 1, 2, 3]])
    for mask, expected in (([[1, 1, 0, 0]], [2, 3]), ([[0, 0, 1, 1]], [1.5, -0.75]), ([[0, 0, 0, 0]], [0, 0])):
        for dtype in (torch.long, torch.bool, torch.float):
            found = base.model(input_ids=ids, attention_mask=torch.tensor(mask, dtype=dtype)).pooler_output
            assert found.tolist() == [expected]
    padded = torch.tensor([[1, base.tokenizer.pad_token_id]])
    assert base.model(input_ids=padded).pooler_output.tolist() == [[3, 4]]
    assert base.model(inputs_embeds=base.model.embeddings(ids)).pooler_output.tolist() == [[7 / 4, 4.5 / 4]]


def test_texts_of_no_known_word_or_of_none_are_finite(base: Base) -> None:
    assert pooled(base, ["zebra ¿?"]).tolist() == [[7 / 4, 4.5 / 4]]  # unknown: the mean of the table
    assert pooled(base, ["", "cat", " \n"]).tolist() == [[0, 0], [3, 4], [0, 0]]
    collated = transformers.DataCollatorWithPadding(base.tokenizer)([dict(base.tokenizer(""))] * 2)
    model = base.task_model("AutoModelForSequenceClassification", num_labels=2)
    assert torch.isfinite(model(**collated).logits).all()
    assert model(**collated).logits.shape == (2, 2)


def test_a_batch_gives_what_each_text_gives(base: Base) -> None:
    texts = ["the cat sat", "cat", "", "the the the cat , sat , on zebras " * 9, "sat"]
    together = pooled(base, texts)
    for i, text in enumerate(texts):
        tolerance.assert_near(together[i], pooled(base, [text])[0], tolerance.relative(90))


def test_offsets_and_words_are_those_of_the_text(base: Base) -> None:
    found = base.tokenizer("The cat-nap, SAT.", return_offsets_mapping=True)
    assert [("The cat-nap, SAT.")[a:b] for a, b in found["offset_mapping"]] == [
        *("The", "cat", "-", "nap", ",", "SAT", ".")
    ]
    assert found.tokens() == ["the", "cat", "<unk>", "<unk>", ",", "sat", "<unk>"]
    split = base.tokenizer(["cat-nap", "SAT"], is_split_into_words=True)
    assert split.word_ids() == [0, 0, 0, 1]


def test_a_letter_composed_of_two_is_the_one_in_the_table(write: Callable[..., str]) -> None:
    base = Base.load(write("naïve 1 2\nwords 3 4\n".encode()))
    assert base.tokenizer("nai\u0308ve words").input_ids == [0, 1]


def test_a_table_with_capitals_is_not_lower_cased(write: Callable[..., str]) -> None:
    cased = Base.load(write(b"The 1 2\nthe 3 4\nUSA 5 6\n"))
    assert pooled(cased, ["The", "the", "USA"]).tolist() == [[1, 2], [3, 4], [5, 6]]
    many = b"".join(b"w%d 0 0\n" % i for i in range(200))
    assert pooled(Base.load(write(b"the 3 4\nUSA 5 6\n" + many)), ["The"]).tolist() == [[3, 4]]


@pytest.mark.parametrize("spelt", ["<unk>", "UNK", "[UNK]"])
def test_the_files_own_rows_for_unknown_and_padding_are_used(spelt: str, write: Callable[..., str]) -> None:
    base = Base.load(write(f"<pad> 9 9\nthe 1 2\n{spelt} 5 6\ncat 3 4\n".encode()))
    assert base.model.config.vocab_size == 4
    assert base.tokenizer("THE zebra cat UNK").input_ids == [1, 2, 3, 2]  # UNK is no capitalised word
    assert pooled(base, ["zebra", "the cat"]).tolist() == [[5, 6], [2, 3]]
    assert base.model.embeddings.weight[base.tokenizer.pad_token_id].tolist() == [9, 9]


def test_the_fingerprint_is_of_words_order_and_values_and_not_of_the_format(write: Callable[..., str]) -> None:
    values = numbers()
    prints = [Base.load(write(table(kind, WORDS, values))).fingerprint for kind in FORMATS]
    assert len(set(prints)) == 1
    nearly = values.copy()
    nearly[3, 2] = np.nextafter(nearly[3, 2], np.float32(np.inf))
    other_words, other_order = [*WORDS[:-1], "x"], WORDS[::-1]
    for words, rows in ((WORDS, nearly), (other_words, values), (other_order, values), (other_order, values[::-1])):
        prints.append(Base.load(write(table("text", words, rows))).fingerprint)
    assert len(set(prints)) == 5


def test_a_base_saved_to_a_folder_is_the_same_base(base: Base, tmp_path: Path) -> None:
    base.model.save_pretrained(tmp_path / "saved")
    base.tokenizer.save_pretrained(tmp_path / "saved")
    again = Base.load(str(tmp_path / "saved"))
    assert again.fingerprint == base.fingerprint
    assert torch.equal(pooled(again, ["The cat zebra, sat"]), pooled(base, ["The cat zebra, sat"]))


@pytest.mark.parametrize(
    ("config", "labels", "loss"),
    [
        ({"num_labels": 3}, torch.tensor([2, 0]), functional.cross_entropy),
        ({"num_labels": 3}, torch.tensor([[1.0, 0, 1], [0, 0, 1]]), functional.binary_cross_entropy_with_logits),
        ({"num_labels": 1}, torch.tensor([[0.5], [-2]]), functional.mse_loss),
        ({"num_labels": 3, "problem_type": "regression"}, torch.randn(2, 3), functional.mse_loss),
    ],
    ids=["single label", "multi label", "regression", "regression of three"],
)
def test_a_text_head_has_the_usual_losses(base: Base, config: dict[str, Any], labels: torch.Tensor, loss: Any) -> None:
    batch = base.tokenizer(["the cat", "sat"], padding=True, return_tensors="pt")
    torch.manual_seed(0)
    model = base.task_model("AutoModelForSequenceClassification", **config)
    found = model(**batch, labels=labels)
    expected = pooled(base, ["the cat", "sat"]) @ model.classifier.weight.T + model.classifier.bias
    tolerance.assert_near(found.logits, expected, tolerance.relative(2, 2))
    torch.testing.assert_close(found.loss, loss(expected, labels))
    assert 0 < model.classifier.weight.std() < 0.1  # of initializer_range
    assert model(**batch).loss is None


def test_a_token_head_judges_each_token(base: Base) -> None:
    batch = base.tokenizer(["the cat", "sat"], padding=True, return_tensors="pt")
    model = base.task_model("AutoModelForTokenClassification", num_labels=3)
    labels = torch.tensor([[0, 2], [1, -100]])
    found = model(**batch, labels=labels, output_hidden_states=True)
    expected = model.classifier(base.model(**batch).last_hidden_state)
    assert torch.equal(found.logits, expected)
    assert torch.equal(found.hidden_states[-1], base.model(**batch).last_hidden_state)
    torch.testing.assert_close(found.loss, functional.cross_entropy(expected.flatten(0, 1), labels.flatten()))


def test_heads_share_the_table_and_drop_out_only_in_training(base: Base) -> None:
    batch = base.tokenizer(["the cat", "sat"], padding=True, return_tensors="pt")
    for auto in ("AutoModelForSequenceClassification", "AutoModelForTokenClassification"):
        model = base.task_model(auto, num_labels=2, classifier_dropout=0.9)
        assert model.base_model.embeddings.weight is base.model.embeddings.weight
        assert Base.prefix(model) == "word_vectors."
        assert base.head_names(model) == ["classifier.weight", "classifier.bias"]
        assert torch.equal(model(**batch).logits, model(**batch).logits)
        model.train()
        assert len({str(model(**batch).logits.tolist()) for _ in range(9)}) > 1


def test_transformers_makes_these_models_from_their_config() -> None:
    word_vectors.register()
    word_vectors.register()
    config = transformers.AutoConfig.for_model("word-vectors", vocab_size=7, hidden_size=3, num_labels=4)
    table = transformers.AutoModel.from_config(config).embeddings.weight
    assert table.shape == (7, 3)
    assert table.any(dim=1).tolist() == [False] + [True] * 6  # padding is zeros
    model = transformers.AutoModelForTokenClassification.from_config(config)
    assert model(input_ids=torch.ones(2, 5, dtype=torch.long)).logits.shape == (2, 5, 4)
    assert model.get_input_embeddings() is model.word_vectors.embeddings


@pytest.fixture
def opinions(write: Callable[..., str], small_csv: Path) -> str:
    """Write a table of the words in the small data, of which a direction says whether they please."""
    rows = [line.rpartition(",") for line in small_csv.read_text().splitlines()[1:]]
    words = sorted({word for text, _, _ in rows for word in text.split()})
    random = np.random.default_rng(0)
    values = random.normal(size=(len(words), 16), scale=0.3)
    for i, word in enumerate(words):
        labels = [label for text, _, label in rows if word in text.split()]
        values[i, 0] += 2 * labels.count("pos") / len(labels) - 1
    return write(table("vec", words, values.astype(np.float32)), "opinions.vec")


@pytest.mark.parametrize("strategy", ["head-only", "full"])
def test_a_run_on_word_vectors_learns_and_loads_again(
    strategy: str, opinions: str, small_csv: Path, registry: Registry
) -> None:
    base = Base.load(opinions)
    before = state(base)
    options = {"num_train_epochs": 30, "batch_size": 4, "learning_rate": 2e-2, "validation_file": str(small_csv)}
    report = run(plan(small_csv, opinions, strategy, **options), registry, base=base)
    assert report.metrics["test"]["accuracy"] > 0.9
    assert same(state(base), before)
    assert set(report.adapter.manifest["patches"]) == ({"embeddings"} if strategy == "full" else set())
    assert report.adapter.manifest["base"]["model_type"] == "word-vectors"

    other = Base.load(opinions)
    texts = ["lovely food", "a dull film", "rude and awful", "zebra"]
    assert predict(other, registry.load("tiny"), texts) == predict(base, report.adapter, texts)
    assert same(state(other), before)


def test_an_adapter_on_another_table_is_refused(
    opinions: str, small_csv: Path, registry: Registry, write: Callable[..., str]
) -> None:
    run(plan(small_csv, opinions, "head-only"), registry, base=Base.load(opinions))
    renamed = Path(opinions).read_text().replace("lovely", "lovelier")
    with pytest.raises(AdapterkitError, match=r"the adapter was trained on base .*opinions.vec' \(word-vectors, "):
        predict(Base.load(write(renamed.encode(), "other.vec")), registry.load("tiny"), ["lovely food"])


def test_a_probe_at_chance_suggests_a_strategy_that_a_table_has(base: Base, registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "chance.jsonl").write_text("".join(f'{{"text": "cat", "label": "{label}"}}\n' for label in "ab" * 12))
    options = {"strategy": "head-only", "train_file": str(tmp_path / "chance.jsonl")}
    (remark,) = (
        r for r in run(**options, registry=registry, base=base, watch=None).remarks if "not significantly" in r
    )
    assert "--strategy full" in remark


@pytest.mark.parametrize(("strategy", "message"), [("layerwise", "needs blocks"), ("lora", "linear modules")])
def test_strategies_that_need_what_a_table_has_not_say_so(
    strategy: str, message: str, opinions: str, small_csv: Path, registry: Registry
) -> None:
    base = Base.load(opinions)
    before = state(base)
    with pytest.raises(StrategyError, match=rf"^[^\n]*{message}[^\n]*$"):
        run(plan(small_csv, opinions, strategy), registry, base=base)
    assert same(state(base), before)
    assert registry.adapters() == {}
