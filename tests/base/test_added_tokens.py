"""An adapter that adds tokens reads them as one, learns their rows and nothing of the others, and leaves no trace."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from adapterkit import Adapter, Base, Plan, Pool, Registry, evaluate, predict, run
from adapterkit.adapter.peft_config import KEY_PREFIX
from adapterkit.convert.combine import combine
from adapterkit.convert.merge import merge
from adapterkit.discovery import installed
from adapterkit.errors import AdapterError, AdapterkitError, BaseModelError
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers import tolerance
from tests.helpers.adapters import said, task_of
from tests.helpers.bases import same, state
from tests.helpers.cli import Adapt

TOKENS = ("<good>", "<bad>")


CASES = [
    ("bert", "text-classification"),
    ("llama", "text-classification"),
    ("bert", "fill-mask"),
    ("gpt2", "text-generation"),
    ("llama", "text-generation"),
    ("t5", "text2text-generation"),
    ("bart", "text2text-generation"),
]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Base]:
    """Return a function from a family and a task to a tiny base, with the head that it comes with, loaded once."""
    known: dict[tuple[str, str], Base] = {}

    def base(family: str, task: str = "text-classification") -> Base:
        key = (family, tiny.HEADS.get(task, "AutoModel"))
        if key not in known:
            known[key] = Base.load(str(tiny.make(family, tmp_path_factory.mktemp(family) / "base", head=key[1])))
        return known[key]

    return base


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Write rows of texts and labels, of prompts and completions, and of sources and targets, all with new tokens."""
    path = tmp_path / "rows.jsonl"
    labels = dict(zip(TOKENS, ("pos", "neg"), strict=True))
    texts = [(f"the food was {token} {i}", label) for i in range(8) for token, label in labels.items()]
    path.write_text("".join(json.dumps({"text": t, "label": label, "reply": t}) + "\n" for t, label in texts))
    return path


def plan(rows: Path, base: str, task: str, strategy: str = "lora", **more: Any) -> Plan:
    columns = {
        "text-classification": {"text_column_name": "text", "label_column_name": "label"},
        "text2text-generation": {"source_column_name": "text", "target_column_name": "reply"},
        "text-generation": {"text_column_name": "text", "max_new_tokens": 4},
    }.get(task, {"text_column_name": "text"})
    options = {"base": base, "train_file": str(rows), "num_train_epochs": 2, "added_tokens": list(TOKENS), **columns}
    return Plan.resolve({"task": task, "strategy": strategy, "name": "added", **options, **more})


def embedding_of(adapter: Adapter) -> dict[str, Any]:
    """Return the stated patches of the embedding alone."""
    return {m: p for m, p in adapter.manifest["patches"].items() if "added" in p["tensors"]}


@pytest.mark.slow
@pytest.mark.parametrize(("family", "task"), CASES)
def test_rows_of_added_tokens_learn_and_come_back_to_the_bit(
    family: str, task: str, rows: Path, loaded: Callable[..., Base], registry: Registry, tmp_path: Path
) -> None:
    base = loaded(family, task)
    before, names, config = state(base), list(dict(base.model.named_modules())), base.model.config.to_dict()
    vocabulary, digest = base.tokenizer.get_vocab(), base.tokenizer_digest
    report = run(plan(rows, base.path, task), registry, base=base)
    assert same(state(base), before)
    assert (names, config) == (list(dict(base.model.named_modules())), base.model.config.to_dict())
    assert (vocabulary, digest) == (base.tokenizer.get_vocab(), base.tokenizer_digest)

    adapter = registry.load("added")
    first = len(base.tokenizer)
    assert adapter.manifest["added_tokens"] == {"<good>": first, "<bad>": first + 1}
    ((name, stored),) = embedding_of(adapter).items()
    assert stored == {"kind": "replace", "options": {}, "tensors": ["added"]}
    prefix = adapter.manifest["base"]["prefix"]
    learned = adapter.tensors[f"{KEY_PREFIX}{prefix}{name}.added"]
    wider = adapter.on(base)
    assert learned.shape == (2, base.model.config.hidden_size)
    assert not torch.equal(learned, wider.model.get_submodule(name).added)
    assert wider.tokenizer("<good>", add_special_tokens=False)["input_ids"] in ([first], [first - 1, first], [5, first])

    again = Base.load(base.path)
    ids = torch.full((2, 8), first)
    ids[:, 0], ids[:, 4:7], ids[:, -1] = 7, torch.arange(20, 23), tiny.EOS
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if task == "text2text-generation":
        batch["decoder_input_ids"] = ids
    found = []
    for one, on in ((report.adapter, base), (adapter, again), (adapter, base)):
        with one.attached(on) as model, torch.no_grad():
            found.append(model(**batch).logits)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert same(state(base), before)

    merged = merge(base, adapter, tmp_path / "merged")
    plain = getattr(transformers, adapter.task.auto_class).from_pretrained(merged)
    tokenizer = transformers.AutoTokenizer.from_pretrained(merged)
    assert plain.get_input_embeddings().num_embeddings == plain.config.vocab_size == first + 2
    assert torch.equal(plain.get_input_embeddings().weight[first:], learned)
    assert torch.equal(plain.get_input_embeddings().weight[:first], base.model.get_input_embeddings().weight)
    assert tokenizer.convert_tokens_to_ids(list(TOKENS)) == [first, first + 1]
    with torch.no_grad():
        tolerance.assert_near(plain(**batch).logits, found[0], tolerance.of_base(base))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [found.name for found in installed()])
def test_they_learn_with_every_strategy(
    strategy: str, rows: Path, loaded: Callable[..., Base], registry: Registry
) -> None:
    base, task = loaded("gpt2", "text-generation"), "text-generation"
    before = state(base)
    report = run(plan(rows, base.path, task, strategy), registry, base=base)
    assert len(embedding_of(report.adapter)) == 1
    assert same(state(base), before)
    assert evaluate(base, registry.load("added"), rows_of(rows)).metrics.n > 0


def rows_of(path: Path) -> Any:
    import datasets

    return datasets.Dataset.from_list([json.loads(line) for line in path.read_text().splitlines()])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
def test_a_pool_answers_mixed_rows_of_adapters_with_and_without_added_tokens(
    family: str, loaded: Callable[..., Base]
) -> None:
    base, task = loaded(family), task_of("text-classification")
    other = base.with_tokens(["<meh>"])
    adapters = {
        "plain": made.adapter(base, task, "lora", std=0.2),
        "added": made.adapter(base.with_tokens(TOKENS), task, "lora", seed=1, std=0.2),
        "other": made.adapter(other, task, "full", seed=2, std=0.05),
        "head": made.adapter(base, task, "head-only", seed=3, std=0.2),
    }
    texts = ["<good> food, <bad> staff", "<meh> <bad>", "a dull film", "<good>"] * 4
    names = [name for name in adapters for _ in range(4)]
    alone = {name: predict(base, adapter, texts[:4]) for name, adapter in adapters.items()}
    vocabulary = base.tokenizer.get_vocab()
    with Pool(base, adapters) as pool:
        for _ in range(2):
            found = pool.predict(texts, adapter_of_each=names)
            for name, answer, i in zip(names, found, range(len(texts)), strict=True):
                expected = alone[name][i % 4]
                assert answer["label"] == expected["label"]
                assert answer["score"] == pytest.approx(expected["score"], abs=tolerance.of_base(base))
    assert base.tokenizer.get_vocab() == vocabulary
    assert not base.serving


def test_a_pool_generates_with_added_tokens(loaded: Callable[..., Base]) -> None:
    base, task = loaded("gpt2", "text-generation"), task_of("text-generation", max_new_tokens=6)
    wider = base.with_tokens(TOKENS)
    adapters = {"plain": made.adapter(base, task), "added": made.adapter(wider, task, std=0.3)}
    text = "<good> food"
    with Pool(base, adapters) as pool:
        found = pool.generate([text, text], adapter_of_each=list(adapters))
    assert found == [predict(base, adapter, [text])[0]["generated_text"] for adapter in adapters.values()]


def test_rows_that_the_base_has_beyond_its_tokenizer_are_left_alone(tmp_path: Path) -> None:
    """As Qwen's, whose embeddings are wider than its vocabulary."""
    base = Base.load(str(tiny.make("gpt2", tmp_path / "base", head="AutoModelForCausalLM", vocab_size=305)))
    adapter = made.adapter(base.with_tokens(TOKENS), task_of("text-generation"), std=0.2)
    place = merge(base, adapter, tmp_path / "out")
    plain = transformers.AutoModelForCausalLM.from_pretrained(place)
    with adapter.attached(base) as model:
        assert model(input_ids=torch.tensor([[300, 301, 302]])).logits.shape[-1] == 305
        tolerance.assert_near(said(plain, "text-generation"), said(model, "text-generation"), tolerance.of_base(base))
    weight, own = plain.get_input_embeddings().weight, base.model.get_input_embeddings().weight
    changed = (weight != own).any(1).nonzero().flatten().tolist()
    assert changed == [300, 301]


def test_what_cannot_be_added_is_said_in_a_line(loaded: Callable[..., Base], tmp_path: Path) -> None:
    base, task = loaded("bert"), task_of("text-classification")
    for tokens, message in (
        (["<mask>"], "'<mask>' can't be added to the tokenizer: it exists already"),
        (["<a>", "<a>"], "'<a>' can't be added to the tokenizer: tokens must be distinct"),
        ([" x"], "' x' can't be added to the tokenizer"),
        ([""], "'' can't be added"),
    ):
        with pytest.raises(BaseModelError, match=message):
            base.with_tokens(tokens)
    adapter = made.adapter(base.with_tokens(TOKENS), task)
    with pytest.raises(AdapterError, match="adds tokens to the tokenizer; only updates alone are added up"):
        combine(base, [(adapter, 1.0)])
    assert "adapter_config.json" not in adapter.files()
    adapter.manifest["added_tokens"] = {"<good>": 7, "<bad>": 8}
    with pytest.raises(AdapterkitError, match=r"gives the added tokens the ids \{'<good>': 300, '<bad>': 301\}, not"):
        predict(base, adapter, ["a text"])


def test_the_commands_take_added_tokens(
    adapt: Adapt, rows: Path, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    flags = ["--base", tiny_folder(), "--train-file", rows, "--epochs", 1, "--task", "text-classification"]
    done = adapt("run", *flags, "--added-tokens", "<good>,<bad>", "--name", "added")
    assert done.exit_code == 0, done.output
    found = json.loads(adapt("predict", "added", "<good> food", "--json").stdout)
    assert "tokens     <good>, <bad> added" in adapt("show", "added").stdout
    assert adapt("eval", "added", "--test-file", rows).exit_code == 0
    assert adapt("export", "added", "--format", "merged", "--to", "out").exit_code == 0
    theirs = transformers.pipeline("text-classification", model=str(tmp_path / "out"))("<good> food")
    assert theirs[0]["score"] == pytest.approx(found[0]["score"], abs=tolerance.TINY)
    done = adapt("export", "added", "--format", "peft", "--to", "no")
    assert done.exit_code == 2
    assert "PEFT can't have this adapter: it adds tokens to the tokenizer; --format merged" in done.stderr
    done = adapt("run", *flags, "--added-tokens", "<mask>")
    assert done.exit_code == 2
    assert "'<mask>' can't be added to the tokenizer: it exists already" in done.stderr
