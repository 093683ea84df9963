"""Searches of a corpus measured by judgements, in the forms of TREC and BEIR."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adapterkit import Base, Pool
from adapterkit.data.judgements import read_judgements
from adapterkit.errors import DataError
from adapterkit.metrics import judged_retrieval
from adapterkit.store.registry import Registry
from tests.helpers.cli import Adapt

WORDS = ["gold", "river", "cloud", "engine", "lamp", "forest", "bread", "violin", "harbor", "winter"]


def expected(ranked: list[str], judged: dict[str, int]) -> dict[str, float]:
    """Return the measures of one query as trec_eval defines them: ndcg_cut_10, recip_rank at 10, recall_10 and _100."""
    gains = [max(0, judged.get(document, 0)) for document in ranked]
    ideal = sorted((r for r in judged.values() if r > 0), reverse=True)
    hits = [i for i, gain in enumerate(gains) if gain > 0]
    return {
        "ndcg_at_10": sum(g / math.log2(i + 2) for i, g in enumerate(gains[:10]))
        / sum(g / math.log2(i + 2) for i, g in enumerate(ideal[:10])),
        "mrr_at_10": 1 / (hits[0] + 1) if hits and hits[0] < 10 else 0.0,
        "recall_at_10": sum(i < 10 for i in hits) / len(ideal),
        "recall_at_100": sum(i < 100 for i in hits) / len(ideal),
        "accuracy_at_1": float(gains[0] > 0),
    }


def test_graded_judgements_are_measured_as_trec_eval_does() -> None:
    dice, numbers = random.Random(3), np.random.default_rng(3)
    corpus, queries = numbers.normal(size=(300, 8)), numbers.normal(size=(20, 8))
    judged = [{dice.randrange(300): dice.choice([-1, 0, 1, 1, 2, 3]) for _ in range(30)} for _ in queries]
    outside = [[1, 2] if i % 2 else [] for i in range(20)]  # relevances of documents that the corpus lacks
    relevances = [[*each.values(), *more] for each, more in zip(judged, outside, strict=True)]
    metrics = judged_retrieval(queries, corpus, judged, relevances)
    by_query = []
    for query, each, more in zip(queries, judged, outside, strict=True):
        ranked = [str(i) for i in np.argsort(-(corpus @ query), kind="stable")]
        names = {str(i): r for i, r in each.items()} | {f"outside {k}": r for k, r in enumerate(more)}
        by_query.append(expected(ranked, names))
    assert metrics.n == 20
    for name, value in metrics.values.items():
        assert value == pytest.approx(np.mean([each[name] for each in by_query]), rel=1e-12), name
    few = judged_retrieval(queries[:2], corpus[:3], [{0: 1}, {}], [[1], [0]])  # fewer documents than are measured
    assert (few.n, few.values["recall_at_10"]) == (1, 1.0)


@pytest.fixture(scope="module")
def beir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a folder as BEIR's: documents with titles, queries, and graded judgements."""
    folder = tmp_path_factory.mktemp("beir")
    (folder / "qrels").mkdir()
    dice = random.Random(1)
    documents = [
        {"_id": f"d{i}", "title": dice.choice(WORDS), "text": " ".join(dice.choices(WORDS, k=4))} for i in range(30)
    ]
    queries = [{"_id": f"q{i}", "text": " ".join(dice.choices(WORDS, k=3))} for i in range(8)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents))
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    pairs = {(f"q{q}", f"d{d}"): dice.randint(0, 2) for q in range(6) for d in dice.sample(range(30), 5)}
    lines = "".join(f"{q}\t{d}\t{r}\n" for (q, d), r in {**pairs, ("q0", "gone"): 1, ("q9", "d1"): 1}.items())
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{lines}")
    return folder


@pytest.fixture(scope="module")
def trained(tiny_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Registry:
    import adapterkit as ak

    registry = Registry.at(tmp_path_factory.mktemp("retrieval") / "registry.json")
    rows = [{"text": f"{word} {other}", "label": word} for word in WORDS[:3] for other in WORDS]
    for name, task in (("vectors", "sentence-similarity"), ("mood", "text-classification")):
        ak.run(base=Base.load(tiny_folder()), registry=registry, train=rows, strategy="head-only", task=task, name=name)
    return registry


def test_beir_and_trec_forms_have_the_measures_of_a_search(
    trained: Registry, beir: Path, adapt: Adapt, tmp_path: Path
) -> None:
    done = adapt("eval", "vectors", "--corpus", beir, "--registry", trained.path, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    judged = read_judgements(str(beir / "qrels" / "test.tsv"))
    trec = tmp_path / "qrels.txt"
    trec.write_text("".join(f"{q} 0 {d} {r}\n" for q, each in judged.items() for d, r in each.items()))
    assert read_judgements(str(trec)) == judged
    files = ["--corpus", beir / "corpus.jsonl", "--queries", beir / "queries.jsonl", "--qrels", trec]
    again = json.loads(adapt("eval", "vectors", *files, "--registry", trained.path, "--json").stdout)
    names = ["ndcg_at_10", "mrr_at_10", "recall_at_10", "recall_at_100", "accuracy_at_1"]
    assert {n: again[n] for n in names} == {n: report[n] for n in names}
    documents = [json.loads(line) for line in (beir / "corpus.jsonl").read_text().splitlines()]
    queries = [json.loads(line) for line in (beir / "queries.jsonl").read_text().splitlines()]
    with Pool(trained) as pool:

        def vectors(texts: list[str]) -> np.ndarray:
            found = np.array([a["embedding"] for a in pool.predict(texts, adapter="vectors")], np.float32)
            unit: np.ndarray = found / np.linalg.norm(found, axis=-1, keepdims=True)
            return unit

        scores = vectors([q["text"] for q in queries]) @ vectors([f"{d['title']} {d['text']}" for d in documents]).T
    ranked = {q["_id"]: [documents[i]["_id"] for i in np.argsort(-row)] for q, row in zip(queries, scores, strict=True)}
    by_query = [expected(ranked[q], each) for q, each in judged.items() if q in ranked and max(each.values()) > 0]
    assert report["n"] == len(by_query)
    for name in names:
        assert report[name] == pytest.approx(np.mean([each[name] for each in by_query]), abs=1e-9), name
    assert [remark.split(": ", 1)[1] for remark in report["remarks"]] == [
        "2 queries, first 'q6', without judgements ignored",
        f"judgements of 1 query, first 'q9', that {beir}/queries.jsonl lacks ignored",
        f"1 document, first 'gone', that {beir}/corpus.jsonl lacks count as not retrieved",
    ]
    assert "30 documents" in adapt("eval", "vectors", "--corpus", beir, "--registry", trained.path).stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no judgements; expected query, iteration"),
        ("q d\n", "qrels:1: expected query, iteration, document, relevance (TREC)"),
        ("q 0 d 0.5\nq 0 d 1\n", "qrels:1: relevance must be an integer, got '0.5'"),
        ("q 0 d 1\nq 0 d x\n", "qrels:2: relevance must be an integer, got 'x'"),
        ("q 0 d 1\nq 0 d 2\n", "qrels:2: document 'd' has another relevance for query 'q' before"),
    ],
)
def test_other_files_are_refused_with_their_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "qrels"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_judgements(str(path))
    assert message in str(caught.value)


def test_what_can_not_be_measured_is_named_in_one_line(
    trained: Registry, beir: Path, adapt: Adapt, tmp_path: Path
) -> None:
    twice = tmp_path / "twice.jsonl"
    twice.write_text('{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}\n')
    bare = tmp_path / "bare.jsonl"
    bare.write_text('{"text": "x"}\n')
    other = tmp_path / "other.tsv"
    other.write_text("x\t0\ty\t1\n")
    queries, qrels = beir / "queries.jsonl", beir / "qrels" / "test.tsv"
    for name, flags, message in (
        ("vectors", ["--qrels", qrels], "--queries and --qrels need --corpus FILE"),
        ("vectors", ["--corpus", twice], "without --queries: give the file"),
        ("vectors", ["--corpus", beir, "--test-file", twice], "--test-file is of labelled rows"),
        ("vectors", ["--corpus", twice, "--queries", queries, "--qrels", qrels], "_id 'a' occurs twice"),
        ("vectors", ["--corpus", bare, "--queries", queries, "--qrels", qrels], "no column of ids named '_id'"),
        ("vectors", ["--corpus", beir, "--qrels", other], "has no judgement of a query"),
        ("vectors", ["--corpus", beir, "--qrels", tmp_path / "none"], "can't be read: No such file"),
        ("mood", ["--corpus", beir], "a search needs one for sentence-similarity"),
    ):
        done = adapt("eval", name, *flags, "--registry", trained.path)
        assert done.exit_code, done.output
        assert message in done.output
        assert "Traceback" not in done.output
