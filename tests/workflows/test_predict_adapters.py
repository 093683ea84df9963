"""adapt predict: several adapters, and rows that name theirs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from adapterkit import Base
from adapterkit.data.input_rows import from_texts
from adapterkit.testing import tiny
from adapterkit.workflows import answer as answering
from tests.helpers import tolerance
from tests.helpers.cli import Adapt
from tests.helpers.shop import TASKS, TEXTS, WRITE, Shop, classes, close, lines


@pytest.mark.slow
def test_leading_words_are_adapters_and_the_others_texts(adapt: Adapt, good: Any, shop: Shop) -> None:
    version = shop.registry.resolve("mood")[1]

    def keys(*args: str) -> list[list[str]]:
        return [list(row) for row in json.loads(good(*args, "--json"))]

    assert keys("mood", "a text", "topic") == [["text", "label", "score"]] * 2
    assert keys("mood", "topic", "a text") == [["text", "mood", "topic"]]
    assert keys("mood,topic", "names", "a text") == [["text", "mood", "topic", "names"]]
    assert keys("mood", f"topic,mood@{version[:5]}", "a text") == [["text", "mood", "topic", f"mood@{version[:5]}"]]
    assert keys("mood", "mood", "a text") == [["text", "label", "score"]]
    assert json.loads(good("mood", "--json", "--", "topic", "--json"))[0]["text"] == "topic"
    assert json.loads(good("mood", "topic@home is great", "--json"))[0]["text"] == "topic@home is great"
    near = adapt("predict", "mood", "topics")
    said = "Error: no adapter named 'topics'; did you mean 'topic'? a text like that goes after --"
    assert (near.exit_code, near.stderr.strip()) == (2, said)


def test_several_adapters_have_a_column_each(good: Any, shop: Shop, tmp_path: Path) -> None:
    names = ["mood", "stars", "many", "names", "topic"]
    said = {name: shop.say(name, TEXTS) for name in names}
    WRITE["jsonl"](tmp_path / "rows.jsonl", [{"text": text, "topic": "x"} for text in TEXTS])
    found = lines(good(*names, "--file", "rows.jsonl"))
    assert [list(row) for row in found] == [["text", "topic", *names[:-1], "predicted_topic"]] * len(TEXTS)
    for name in names[:-1]:
        close([row[name] for row in found], said[name])
    close([row["predicted_topic"] for row in found], said["topic"])

    flat = list(csv.DictReader(good(*names, "--file", "rows.jsonl", "--format", "csv").splitlines()))
    assert [row["mood"] for row in flat] == [answer["label"] for answer in said["mood"]]
    assert [row["predicted_topic"] for row in flat] == [answer["label"] for answer in said["topic"]]
    close([float(row["stars"]) for row in flat], [answer["value"] for answer in said["stars"]])
    close([json.loads(row["many"]) for row in flat], [answer["labels"] for answer in said["many"]])
    close([json.loads(row["names"]) for row in flat], [answer["entities"] for answer in said["names"]])


def test_several_adapters_read_what_each_of_them_needs(good: Any, shop: Shop) -> None:
    row = {"question": "who?", "context": "rude staff", "review": "a fine film", "text": "great"}
    found = lines(good("answers", "review,mood", input=json.dumps(row)))[0]
    close(found["answers"], shop.say("answers", ["who?\trude staff"])[0])
    close(found["review"] if "review" not in row else found["predicted_review"], shop.say("review", ["a fine film"])[0])
    close(found["mood"], shop.say("mood", ["great"])[0])


ROUTED: list[tuple[str, dict[str, Any]]] = [
    ("mood", {"text": "a fine film"}),
    ("answers", {"question": "what is it?", "context": "lovely food awful film"}),
    ("topic", {"text": "rude staff"}),
    ("names", {"tokens": ["a", "film"]}),
    ("mood", {"text": "great"}),
    ("stars", {"text": "so so"}),
    ("review", {"body": "a dull film"}),
]


def test_a_row_names_its_adapter(good: Any, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "REQUESTS", 2)
    rows = [{"adapter": name, **row} for name, row in ROUTED]
    said = [shop.say(name, [row.get("body", row)])[0] for name, row in ROUTED]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    with monkeypatch.context() as whole:
        whole.setattr(answering, "REQUESTS", 100)
        close(lines(good(input=text)), [{**row, **answer} for row, answer in zip(rows, said, strict=True)])
    WRITE["jsonl"](tmp_path / "rows.jsonl", rows)
    close(lines(good("--file", "rows.jsonl")), [{**row, **answer} for row, answer in zip(rows, said, strict=True)])
    flat = list(csv.DictReader(good("--file", "rows.jsonl", "--format", "csv").splitlines()))
    assert list(flat[0]) == ["adapter", "text", "question", "context", "tokens", "body", "answer", "score"]
    assert [row["adapter"] for row in flat] == [name for name, _ in ROUTED]
    assert flat[0]["answer"] == said[0]["label"]
    assert flat[1]["answer"] == said[1]["answer"]
    close(json.loads(flat[3]["answer"]), said[3]["entities"])
    assert float(flat[2]["score"]) == pytest.approx(said[2]["score"], abs=tolerance.TINY)
    assert (float(flat[5]["answer"]), flat[5]["score"]) == (pytest.approx(said[5]["value"], abs=tolerance.TINY), "")


def test_adapters_that_are_named_win_over_those_of_the_rows(good: Any, shop: Shop) -> None:
    found = lines(good("mood", input=json.dumps({"adapter": "topic", "text": "great"})))[0]
    close(found, {"adapter": "topic", "text": "great", **shop.say("mood", ["great"])[0]})


def test_the_base_is_loaded_once(good: Any, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = Base.load

    def counting(name: str, **options: Any) -> Base:
        loaded.append(name)
        return load(name, **options)

    monkeypatch.setattr(Base, "load", counting)
    good("mood", "topic", "names", *TEXTS)
    assert loaded == [str(shop.folder / "base")]
    good("mood", "x", "--base", tiny.make("bert", shop.folder / "same"))
    assert loaded[1:] == [str(shop.folder / "same")]


def test_few_bytes_for_adapters_change_no_answer(good: Any, shop: Shop) -> None:
    plain = good("mood", "topic", "review,many", *TEXTS, "--json")
    size = max(sum(t.numel() * 4 for t in shop.adapters[name][1].tensors.values()) for name in TASKS)
    close(json.loads(good("mood", "topic", "review,many", *TEXTS, "--json", "--max-bytes", size)), json.loads(plain))
    for written in ("1GB", "1.5 gb", "64MiB", "900000kB", "1000000B"):
        good("mood", "x", "--max-bytes", written)


def test_a_version_that_is_registered_meanwhile_has_no_part_in_the_answers(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.add("moving", shop.base, classes("x", "y"), "lora", seed=1)
    monkeypatch.setattr(answering, "REQUESTS", 3)
    chunks = answering.Answering(from_texts(TEXTS), shop.registry, ["moving"]).chunks(batch_size=1)
    found, said = next(chunks), shop.say("moving", TEXTS)
    shop.add("moving", shop.base, classes("x", "y"), "lora", seed=2)
    found += next(chunks)
    close([one.answers["moving"] for one in found], said)
