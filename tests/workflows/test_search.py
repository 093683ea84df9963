"""Vectors in files, searches of a corpus, and a folder that sentence-transformers loads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch.nn.functional import normalize

import adapterkit as ak
from adapterkit import Base, Pool
from adapterkit.store.registry import Registry
from tests.helpers.cli import Adapt
from tests.helpers.rows import ROWS
from tests.helpers.sentence_models import as_sentence_model
from tests.helpers.tolerance import TINY

TEXTS = [" ".join(ROWS["text-classification"](i)["text"].split()) for i in range(12)]


@pytest.fixture(scope="module")
def trained(tiny_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Registry:
    registry = Registry.at(tmp_path_factory.mktemp("search") / "registry.json")
    base = Base.load(tiny_folder("bert"))
    rows = [ROWS["sentence-similarity"](i) for i in range(16)]
    for name, strategy in (("map", "head-only"), ("lora", "lora"), ("full", "full")):
        ak.run(base=base, registry=registry, train=rows, validation=rows, strategy=strategy, epochs=1, name=name)
    ak.run(
        base=base,
        registry=registry,
        train=[ROWS["text-classification"](i) for i in range(16)],
        strategy="head-only",
        epochs=1,
        name="labels",
    )
    return registry


def vectors(registry: Registry, name: str) -> np.ndarray:
    with Pool(registry) as pool:
        return np.array([answer["embedding"] for answer in pool.predict(TEXTS, adapter=name)])


def test_predictions_are_written_as_a_matrix_and_as_a_table(trained: Registry, adapt: Adapt, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"anchor": text, "id": i}) + "\n" for i, text in enumerate(TEXTS)))
    expected = vectors(trained, "lora")
    for name in ("v.npy", "v.parquet"):
        result = adapt("predict", "lora", str(corpus), "--out", str(tmp_path / name), "--registry", str(trained.path))
        assert result.exit_code == 0, result.output
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected, atol=TINY)
    table = pyarrow.parquet.read_table(tmp_path / "v.parquet")
    assert table.column_names == ["anchor", "id", "embedding"]
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), np.float32), np.load(tmp_path / "v.npy"))


def test_a_matrix_is_of_vectors_alone(trained: Registry, adapt: Adapt, tmp_path: Path) -> None:
    out = tmp_path / "v.npy"
    result = adapt("predict", "labels", "a text", "--out", str(out), "--registry", str(trained.path))
    assert result.exit_code == 2
    assert "a .npy file holds vectors of texts, and the answers are none" in result.output
    assert not out.exists()


def test_a_search_prints_the_nearest_rows_first(trained: Registry, adapt: Adapt, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(TEXTS) + "\n")
    shared = ("--corpus", str(corpus), "--registry", str(trained.path), "--json")
    result = adapt("search", "lora", TEXTS[3], "-k", "12", *shared)
    assert result.exit_code == 0, result.output
    hits = json.loads(result.stdout)
    embedded = vectors(trained, "lora")
    scores = embedded @ embedded[3]
    assert [hit["score"] for hit in hits] == pytest.approx(sorted(scores, reverse=True), abs=2 * TINY)
    assert hits[0]["score"] == pytest.approx(1, abs=TINY)
    assert {hit["line"]: hit["text"] for hit in hits} == dict(enumerate(TEXTS, start=1))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("labels", "q"), "adapter 'labels' is for text-classification; a search needs one for sentence-similarity"),
        (("lora",), "no query; use adapt search NAME --corpus FILE"),
        (("lora", "q", "--text-column", "body"), "no column named 'body'; there are: text"),
    ],
)
def test_a_search_that_cannot_be_is_one_line(
    trained: Registry, adapt: Adapt, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a text\n")
    result = adapt("search", *arguments, "--corpus", str(corpus), "--registry", str(trained.path))
    assert result.exit_code == 2
    assert reason in result.output


@pytest.mark.parametrize("name", ["map", "lora"])
def test_modules_of_an_exported_folder_give_the_vectors_of_the_pool(
    trained: Registry, adapt: Adapt, tmp_path: Path, name: str
) -> None:
    to = tmp_path / "exported"
    result = adapt(
        "export", name, "--format", "sentence-transformers", "--to", str(to), "--registry", str(trained.path)
    )
    assert result.exit_code == 0, result.output
    model = transformers.AutoModel.from_pretrained(to)
    tokenizer = transformers.AutoTokenizer.from_pretrained(to)
    modules = [(m["type"].rpartition(".")[2], to / m["path"]) for m in json.loads((to / "modules.json").read_text())]
    assert [kind for kind, _ in modules] == ["Transformer", "Pooling", *(["Dense"] * (name == "map")), "Normalize"]
    for text, expected in zip(TEXTS, vectors(trained, name), strict=True):
        with torch.no_grad():
            vector = model(**tokenizer(text, return_tensors="pt"))[0].mean(1)
        for kind, folder in modules:
            if kind == "Dense":
                vector = vector @ load_file(folder / "model.safetensors")["linear.weight"].T
        np.testing.assert_allclose(normalize(vector, dim=-1)[0].numpy(), expected, atol=2 * TINY)


@pytest.mark.parametrize(("name", "kinds"), [("map", set()), ("lora", {"low-rank"}), ("full", {"replace"})])
def test_an_exported_folder_is_imported_as_what_it_differs_by_from_the_base(
    trained: Registry, adapt: Adapt, tmp_path: Path, tiny_folder: Callable[..., Path], name: str, kinds: set[str]
) -> None:
    to, registry = tmp_path / "exported", ("--registry", str(trained.path))
    adapt("export", name, "--format", "sentence-transformers", "--to", str(to), *registry)
    result = adapt("import", str(to), "--base", str(tiny_folder("bert")), "--name", f"{name}-again", *registry)
    assert result.exit_code == 0, result.output
    assert "vectors    equal to the folder's" in result.output
    again = trained.load(f"{name}-again")
    assert {patch["kind"] for patch in again.manifest["patches"].values()} >= kinds
    assert again.manifest["head"] == ([] if name == "lora" else ["head.map.weight"])
    if name == "lora":  # as small as it was
        assert again.manifest["parameters"] <= trained.load(name).manifest["parameters"]
    np.testing.assert_allclose(vectors(trained, f"{name}-again"), vectors(trained, name), atol=4 * TINY)


def test_a_folder_that_can_not_be_imported_is_refused_in_one_line(
    trained: Registry, adapt: Adapt, tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    to, registry = tmp_path / "exported", ("--registry", str(trained.path))
    adapt("export", "map", "--format", "sentence-transformers", "--to", str(to), *registry)
    bare = as_sentence_model(tmp_path / "bare", of=tiny_folder("bert"))
    odd = shutil.copytree(to, tmp_path / "odd")
    (odd / "modules.json").write_text('[{"type": "sentence_transformers.models.CNN", "path": "1_CNN"}]')
    twice = shutil.copytree(to, tmp_path / "twice")
    modules = json.loads((twice / "modules.json").read_text())[:3]
    (twice / "modules.json").write_text(json.dumps([*modules, modules[-1]]))
    base = ("--base", str(tiny_folder("bert")))
    for arguments, reason in (
        ((to,), "is a SentenceTransformer; give --base"),
        ((to, *base, "--task", "text-ranking"), "a SentenceTransformer is imported for sentence-similarity"),
        ((to, "--base", str(tiny_folder("gpt2"))), "is a 'bert' model, and base"),
        ((bare, *base), "there is no difference to import"),
        (
            (odd, *base),
            "has the modules CNN; an adapter has each of Transformer, Pooling, Dense, Normalize at most once",
        ),
        ((twice, *base), "has the modules Transformer, Pooling, Dense, Dense; an adapter has each of"),
    ):
        result = adapt("import", *map(str, arguments), "--name", "x", *registry)
        assert result.exit_code, result.output
        assert reason in result.output
        assert "Traceback" not in result.output
    assert "x" not in trained.adapters()
