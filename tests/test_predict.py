"""adapt predict: every kind of input and output, several adapters, rows that name theirs, and what goes wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from click.testing import Result

from adapterkit import Adapter, Base, Pool, Registry, predict
from adapterkit.data import streams
from adapterkit.errors import DataError
from adapterkit.tasks import Task, task_class
from adapterkit.testing import tiny
from adapterkit.workflows import answer as answering
from tests import made
from tests.test_tasks import ASK

Adapt = Callable[..., Result]
TEXTS = ["a fine film", "i want my money back, now", "great", "rude staff & “awful” food", 'so "so", really']
ADAPT = str(Path(sys.executable).with_name("adapt"))


def classes(*labels: str, columns: tuple[str, ...] = ("text",), **more: Any) -> Task:
    return task_class("text-classification")(
        **{"problem_type": "single_label_classification", **more},
        text_column_name=columns,
        label_column_name="label",
        labels=labels,
        max_seq_length=64,
    )


TASKS: dict[str, tuple[Task, str]] = {
    "mood": (classes("bad", "good"), "lora"),
    "topic": (classes("food", "film", "staff"), "head-only"),
    "review": (classes("bad", "good", columns=("review",)), "layerwise"),
    "stars": (classes(problem_type="regression"), "lora"),
    "many": (classes("a", "b", "c", problem_type="multi_label_classification", threshold=0.4), "lora"),
    "pair": (classes("yes", "no", columns=("premise", "hypothesis")), "lora"),
    "names": (
        task_class("token-classification")(
            text_column_name=("tokens",), label_column_name="tags", labels=("O", "B-X", "I-X")
        ),
        "lora",
    ),
    "answers": (
        task_class("question-answering")(
            question_column_name="question", context_column_name="context", answer_column_name="answers"
        ),
        "lora",
    ),
    "choice": (
        task_class("multiple-choice")(
            context_column_name="context", endings_column_name=("endings",), label_column_name="label"
        ),
        "lora",
    ),
    "swag": (
        task_class("multiple-choice")(
            context_column_name="context",
            question_column_name="begin",
            endings_column_name=("ending0", "ending1"),
            label_column_name="label",
        ),
        "lora",
    ),
}
OTHERS: dict[str, tuple[str, str, Task]] = {  # on bases of their own: family, head, task
    "far": ("bert", "AutoModel", classes("bad", "good")),
    "words": ("bert", "AutoModelForMaskedLM", task_class("fill-mask")(text_column_name=("text",))),
    "on": (
        "gpt2",
        "AutoModelForCausalLM",
        task_class("text-generation")(
            prompt_column_name="prompt", completion_column_name="completion", max_new_tokens=4
        ),
    ),
    "chat": (
        "gpt2",
        "AutoModelForCausalLM",
        task_class("text-generation")(text_column_name=("messages",), max_new_tokens=4),
    ),
    "german": (
        "t5",
        "AutoModelForSeq2SeqLM",
        task_class("text2text-generation")(
            source_column_name="translation",
            target_column_name="translation",
            source_lang="en",
            target_lang="de",
            max_target_length=6,
        ),
    ),
}


class Shop:
    """Adapters that are registered, and what each of them says by itself."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry(folder / "registry.json")
        self.folder = folder
        self.adapters: dict[str, tuple[Base, Adapter]] = {}
        self.base = Base.load(str(tiny.make("bert", folder / "base")))
        for name, (task, strategy) in TASKS.items():
            self.add(name, self.base, task, strategy)
        bases: dict[str, Base] = {}
        for name, (family, head, task) in OTHERS.items():
            if f"{family}-{head}" not in bases:
                made_at = tiny.make(family, folder / f"{family}-{head}", seed=1, head=head)
                bases[f"{family}-{head}"] = Base.load(str(made_at))
            self.add(name, bases[f"{family}-{head}"], task, "lora")

    def add(self, name: str, base: Base, task: Task, strategy: str, seed: int | None = None) -> None:
        seed = len(self.adapters) if seed is None else seed
        few = {"target_modules": ("usual",)} if strategy == "lora" else {}  # with all of them, rounding grows
        adapter = made.adapter(base, task, strategy, seed=seed, std=0.3, **few)
        self.adapters[name] = base, adapter
        about = {"name": base.name, "fingerprint": base.fingerprint}
        entry = {"task": task.name, "strategy": strategy, "base": about, "bytes": 0, "metrics": {}}
        self.registry.add(name, adapter.files(), entry)

    def say(self, name: str, texts: list[Any]) -> list[dict[str, Any]]:
        return predict(*self.adapters[name], texts)


@pytest.fixture(scope="module")
def made_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(made_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("ADAPT_REGISTRY", str(made_shop.registry.path))
    return made_shop


@pytest.fixture
def good(adapt: Adapt, shop: Shop) -> Callable[..., str]:
    """Return a function that runs `adapt predict`, which goes well, and returns what it prints."""

    def run(*args: object, **kwargs: Any) -> str:
        done = adapt("predict", *args, **kwargs)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def close(found: Any, wanted: Any) -> None:
    """Compare nests of values, numbers to 1e-5."""
    if isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key, value in wanted.items():
            close(found[key], value)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            close(one, other)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=1e-5)
    else:
        assert found == wanted


# ---- what goes in


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows)


def separated(path: Path, rows: list[dict[str, Any]], delimiter: str) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


WRITE: dict[str, Callable[[Path, list[dict[str, Any]]], Any]] = {
    "jsonl": lambda path, rows: path.write_text("".join(json.dumps(row) + "\n" for row in rows)),
    "json": lambda path, rows: path.write_text(json.dumps({"data": rows})),
    "csv": lambda path, rows: separated(path, rows, ","),
    "tsv": lambda path, rows: separated(path, [{**r, "text": r["text"].replace('"', "")} for r in rows], "\t"),
    "parquet": lambda path, rows: pyarrow.parquet.write_table(table(rows), path),
    "arrow": lambda path, rows: pyarrow.feather.write_feather(table(rows), path),
}


@pytest.mark.parametrize("kind", WRITE)
def test_every_kind_of_file_is_answered_row_by_row(kind: str, good: Any, shop: Shop, tmp_path: Path) -> None:
    rows = [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)]
    WRITE[kind](tmp_path / f"rows.{kind}", rows)
    said = shop.say("mood", [text.replace('"', "") if kind == "tsv" else text for text in TEXTS])
    found = lines(good("mood", "--file", f"rows.{kind}"))
    close([{k: row[k] for k in ("label", "score")} for row in found], said)
    assert [list(row) for row in found] == [["id", "text", "label", "score"]] * len(rows)
    assert [row["id"] for row in found] == [row["id"] for row in rows]


def test_a_text_file_has_a_text_on_each_line(good: Any, shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n\n", encoding="utf-8")
    said = [{"text": t, **a} for t, a in zip(TEXTS, shop.say("mood", TEXTS), strict=True)]
    for flag in ("--file", "--input-file", "-f"):
        close(lines(good("mood", flag, "texts.txt")), said)


def test_the_standard_input_holds_texts_or_rows(good: Any, shop: Shop) -> None:
    said = [{"text": t, **a} for t, a in zip(TEXTS, shop.say("topic", TEXTS), strict=True)]
    texts = "\n".join(TEXTS)
    as_rows = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    as_cells = "text\n" + "".join('"' + text.replace('"', '""') + '"\n' for text in TEXTS)
    for args, given in (
        ([], texts),
        (["-f", "-"], texts + "\n"),
        (["--file", "-"], as_rows),
        ([], "\ufeff" + as_rows + "\n"),
        (["--input-format", "jsonl"], "\n" + as_rows),
        (["--input_format", "csv"], as_cells),
        ([], (texts + "\n").encode("cp1252")),
    ):
        close(lines(good("topic", *args, input=given)), said)
    assert lines(good("mood", "--input-format", "txt", input="{a}\n"))[0]["text"] == "{a}"
    assert lines(good("mood", input='{"text": "a", "of": [1, {"b": null}]}'))[0]["of"] == [1, {"b": None}]


@pytest.mark.parametrize(
    ("name", "text", "row"),
    [
        ("mood", ASK["text-classification"], {"text": ASK["text-classification"]}),
        ("stars", "5", {"text": 5}),
        ("many", "a fine film", {"text": "a fine film"}),
        ("pair", "it rains\tit pours", {"premise": "it rains", "hypothesis": "it pours"}),
        ("names", "a lovely film", {"tokens": ["a", "lovely", "film"]}),
        ("names", "a lovely film!", {"tokens": "a lovely film!"}),
        ("names", "a lovely film!", {"text": "a lovely film!", "tags": [1]}),
        ("answers", ASK["question-answering"], {"question": "what is it?", "context": "lovely food awful film"}),
        ("choice", "a\tb\tc c\td", {"context": "a", "endings": ["b", "c c", "d"]}),
        ("swag", "a\tx\tb\tc c", {"context": "a", "begin": "x", "ending0": "b", "ending1": "c c"}),
        ("swag", "a\t\tb\tc c", {"context": "a", "begin": None, "ending0": "b", "ending1": "c c"}),
        ("words", ASK["fill-mask"], {"text": ASK["fill-mask"]}),
        ("on", ASK["text-generation"], {"prompt": ASK["text-generation"], "completion": ""}),
        ("chat", "hello", {"messages": "hello"}),
        ("german", "a fine film", {"translation": {"en": "a fine film"}}),
        ("german", "a fine film", {"source": "a fine film"}),
    ],
)
def test_every_task_is_asked_by_text_and_by_row(
    name: str, text: str, row: dict[str, Any], good: Any, shop: Shop
) -> None:
    said = shop.say(name, [text])[0]
    close(json.loads(good(name, "--json", "--", text)), [{"text": text, **said}])
    close(lines(good(name, input=json.dumps(row)))[0], {**row, **said})


def test_a_chat_is_answered_from_its_messages(good: Any, shop: Shop) -> None:
    messages = [{"role": "user", "content": "a fine film"}, {"role": "assistant", "content": "yes"}]
    said = shop.say("chat", [{"messages": messages}])[0]
    close(lines(good("chat", input=json.dumps({"messages": messages})))[0], {"messages": messages, **said})


def test_columns_of_other_names_are_found_or_given(good: Any, shop: Shop, tmp_path: Path) -> None:
    said = shop.say("review", TEXTS)

    def asked(columns: dict[str, Any], *args: str) -> None:
        rows = [{name: text if value is None else value for name, value in columns.items()} for text in TEXTS]
        WRITE["jsonl"](tmp_path / "rows.jsonl", rows)
        found = lines(good("review", "--file", "rows.jsonl", *args))
        close([dict(list(row.items())[-2:]) for row in found], said)

    asked({"review": None, "text": "x"})
    asked({"body": None, "id": 1})
    asked({"body": None, "adapter": "x"})
    asked({"id": "1", "sentence": None})
    asked({"review": "x", "text": "y", "body": None}, "--text-column-name", "body")
    asked({"review": "x", "text": "y", "body": None}, "--text_column", "body")
    pair = json.dumps({"a": "it pours", "b": "it rains"})
    found = lines(good("pair", "--text-column", "b,a", input=pair))[0]
    close(found, {"a": "it pours", "b": "it rains", **shop.say("pair", ["it rains\tit pours"])[0]})


# ---- which adapters


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
    assert float(flat[2]["score"]) == pytest.approx(said[2]["score"], abs=1e-5)
    assert (float(flat[5]["answer"]), flat[5]["score"]) == (pytest.approx(said[5]["value"], abs=1e-5), "")


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
    chunks = answering.Answering(streams.from_texts(TEXTS), shop.registry, ["moving"]).chunks(batch_size=1)
    found, said = next(chunks), shop.say("moving", TEXTS)
    shop.add("moving", shop.base, classes("x", "y"), "lora", seed=2)
    found += next(chunks)
    close([one.answers["moving"] for one in found], said)


# ---- what comes out


@pytest.mark.parametrize("end", ["jsonl", "csv", "tsv"])
def test_every_kind_of_output(end: str, good: Any, shop: Shop, tmp_path: Path) -> None:
    texts = [*TEXTS, "two\nlines\r", "a\ttab, a comma", "  spaces "]
    rows = [{"text": text, "n": i / 8, "of": [i, {"a": None}], "none": None} for i, text in enumerate(texts)]
    WRITE["jsonl"](tmp_path / "rows.jsonl", rows)
    (tmp_path / f"out.{end}").write_text("before")
    assert good("mood", "--file", "rows.jsonl", "--out", f"out.{end}") == ""
    written = (tmp_path / f"out.{end}").read_bytes().decode()
    assert good("mood", "--file", "rows.jsonl", "--format", end) == written.replace("\r\n", "\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"out.{end}", "rows.jsonl"]
    assert (tmp_path / f"out.{end}").stat().st_mode & 0o777 == 0o644
    said = shop.say("mood", texts)
    if end == "jsonl":
        close(lines(written), [{**row, **answer} for row, answer in zip(rows, said, strict=True)])
        return
    with open(tmp_path / f"out.{end}", newline="", encoding="utf-8") as file:
        cells = list(csv.DictReader(file, delimiter={"csv": ",", "tsv": "\t"}[end], strict=True))
    assert list(cells[0]) == ["text", "n", "of", "none", "label", "score"]
    assert [row["text"] for row in cells] == texts
    assert [(float(row["n"]), json.loads(row["of"]), row["none"]) for row in cells] == [
        (row["n"], row["of"], "") for row in rows
    ]
    assert [row["label"] for row in cells] == [answer["label"] for answer in said]
    close([float(row["score"]) for row in cells], [answer["score"] for answer in said])


def test_a_csv_that_was_written_is_read_again(good: Any, tmp_path: Path) -> None:
    texts = [*TEXTS, "two\nlines\r", "a\ttab, a comma"]
    WRITE["jsonl"](tmp_path / "rows.jsonl", [{"text": text} for text in texts])
    good("mood", "--file", "rows.jsonl", "--out", "out.csv")
    again = lines(good("topic", "--file", "out.csv"))
    assert [row["text"] for row in again] == texts
    assert list(again[0]) == ["text", "label", "score", "predicted_label", "predicted_score"]


def test_a_taken_name_is_left_to_the_column(good: Any, shop: Shop) -> None:
    row = {"text": "great", "label": "mine", "predicted_label": "mine too", "score": 3}
    said = shop.say("mood", ["great"])[0]
    found = lines(good("mood", input=json.dumps(row)))[0]
    close(found, {**row, "predicted_predicted_label": said["label"], "predicted_score": said["score"]})


def test_a_table_is_for_reading(good: Any) -> None:
    rows = [re.split(r"\s\s+", line.strip()) for line in good("mood", *TEXTS[:2]).splitlines()]
    assert rows[0] == ["label", "score", "text"]
    assert [row[2] for row in rows[1:]] == TEXTS[:2]
    assert all(re.fullmatch(r"[01]\.\d{3}", row[1]) for row in rows[1:])
    shown = good("mood", "topic", "--format", "table", input="great\n")
    assert re.split(r"\s\s+", shown.splitlines()[0].strip()) == ["mood", "topic", "text"]
    shown = good("--format", "table", input='{"adapter": "mood", "text": "great"}')
    assert re.split(r"\s\s+", shown.splitlines()[0].strip()) == ["answer", "score", "adapter", "text"]


def test_json_is_one_list_however_many_chunks_it_has(good: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = good("mood", "--json", *TEXTS, "a\u2028b")
    assert whole == json.dumps(json.loads(whole), indent=2, ensure_ascii=False) + "\n"
    monkeypatch.setattr(answering, "REQUESTS", 2)
    close(json.loads(good("mood", "--json", "--batch-size", 2, *TEXTS, "a\u2028b")), json.loads(whole))


def test_order_is_kept_over_chunks(good: Any, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    words = " ".join(TEXTS).split()
    texts = [" ".join(draw.choices(words, k=draw.randint(1, 30))) for _ in range(60)]
    names = ["mood", "topic"]
    rows = [{"text": text, "i": i, "adapter": draw.choice(names)} for i, text in enumerate(texts)]
    WRITE["jsonl"](tmp_path / "rows.jsonl", rows)
    said = {name: shop.say(name, texts) for name in names}
    sizes: list[int] = []
    ask = Pool.predict

    def counting(self: Pool, texts: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(texts))
        return ask(self, texts, *args, **kwargs)

    monkeypatch.setattr(Pool, "predict", counting)
    for most, characters, expected in ((7, 1 << 20, [7] * 8 + [4]), (1 << 20, 300, None), (1 << 20, 1 << 20, [60])):
        monkeypatch.setattr(answering, "REQUESTS", most)
        monkeypatch.setattr(answering, "CHARACTERS", characters)
        sizes.clear()
        found = lines(good("--file", "rows.jsonl", "--batch-size", 4))
        close(found, [{**row, **said[row["adapter"]][i]} for i, row in enumerate(rows)])
        assert sizes == expected or (expected is None and len(sizes) > 10)
        both = lines(good("mood", "topic", "--file", "rows.jsonl"))
        close(both, [{**row, **{name: said[name][i] for name in names}} for i, row in enumerate(rows)])


def test_a_bar_on_the_terminal_takes_no_row_from_the_output(
    good: Any, adapt: Adapt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITE["jsonl"](tmp_path / "rows.jsonl", [{"text": text} for text in TEXTS])
    plain = {form: good("mood", "--file", "rows.jsonl", "--format", form) for form in ("jsonl", "csv", "table")}
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the standard error for a terminal then
    for form in ("jsonl", "csv"):
        done = adapt("predict", "mood", "--file", "rows.jsonl", "--format", form)
        assert done.stdout == plain[form]
        assert "answering" in done.stderr
    shown = re.sub(r"\x1b\[[0-9;]*m", "", good("mood", "--file", "rows.jsonl", "--format", "table"))
    assert shown == plain["table"]


# ---- what goes wrong

FILES = {
    "rows.jsonl": '{"text": "a", "id": 1}\n{"text": "b", "id": 2}\n',
    "two.csv": "body,remark\na,b\n",
    "gap.txt": "a\n\nb\n",
    "hole.csv": "text,id\na,1\n ,2\n",
    "none.jsonl": "",
    "bad.jsonl": '{"text": "a"}\n{"text"\n',
    "routed.jsonl": '{"adapter": "mood", "text": "a"}\n\n{"adapter": "mod", "text": "b"}\n',
    "unrouted.jsonl": '{"adapter": "mood", "text": "a"}\n{"text": "b"}\n',
    "apart.jsonl": '{"adapter": "mood", "text": "a"}\n{"adapter": "far", "text": "b"}\n',
    "lacking.jsonl": '{"adapter": "mood", "text": "a"}\n{"adapter": "answers", "text": "b"}\n',
}
MISTAKES: dict[str, tuple[list[str], str | None, str]] = {
    "adapter": (["mod", "a text"], None, "no adapter named 'mod'; did you mean 'mood'? registered: answers"),
    "no name": (["a text"], None, "'a text' is no adapter's name"),
    "no version": (["mood@", "a"], None, "'mood@' is no adapter's name: letters, digits, - and _, at most 96, a"),
    "second": (["mood", "topic,nmes", "a"], None, "no adapter named 'nmes'; did you mean 'names'?"),
    "version": (["mood", "topic@00", "a"], None, "no version of topic named '00'"),
    "no adapter": (["--", "a"], None, "which adapter? name one before the texts; registered: answers, chat"),
    "no adapter for rows": (
        ["--file", "rows.jsonl"],
        None,
        "rows.jsonl: which adapter? name one before the texts, or in a column 'adapter', and there are text, id; reg",
    ),
    "file": (["mood", "--file", "no.csv"], None, "no file 'no.csv'; '.' holds folder.csv, hole.csv, two.csv"),
    "kind of file": (["mood", "--file", "rows.xls"], None, "rows.xls: files that can be read end in .csv"),
    "both": (
        ["mood", "a", "--file", "rows.jsonl"],
        None,
        "'a' is not a registered adapter, and a text",
    ),
    "empty file": (["mood", "--file", "none.jsonl"], None, "none.jsonl: no rows"),
    "empty input": (["mood"], "", "standard input: no rows"),
    "empty text": (["mood", "a", " "], None, "text 2: text is empty"),
    "empty line": (["mood"], "a\n\nb\n", "standard input:2: the line is empty"),
    "empty line of a file": (["mood", "--file", "gap.txt"], None, "gap.txt:2: the line is empty"),
    "empty cell": (["mood", "--file", "hole.csv"], None, "hole.csv:3: text is empty"),
    "bad line": (["mood", "--file", "bad.jsonl"], None, "bad.jsonl:2: not JSON"),
    "bad line of a stream": (["mood"], FILES["bad.jsonl"], "standard input:2: not JSON"),
    "no object": (["mood"], '{"text": "a"}\n[1]\n', "standard input:2: a JSON object was expected, not a list"),
    "column": (
        ["pair", "--file", "rows.jsonl"],
        None,
        "rows.jsonl: adapter 'pair' reads premise + hypothesis; there are text, id; give --text-column-name",
    ),
    "column of several": (["mood", "pair", "--file", "rows.jsonl"], None, "adapter 'pair' reads premise + hypothesis"),
    "two texts": (
        ["mood", "--file", "two.csv"],
        None,
        "adapter 'mood' reads text; there are body, remark; give --text",
    ),
    "text column": (
        ["mood", "--file", "rows.jsonl", "--text-column-name", "txt"],
        None,
        "rows.jsonl: no column named 'txt'; did you mean 'text'? there are: id, text",
    ),
    "text columns": (
        ["pair", "--file", "rows.jsonl", "--text-column-name", "text"],
        None,
        "--text-column-name=text, but adapter 'pair' reads premise + hypothesis: 2 expected",
    ),
    "text column of texts": (
        ["mood", "a", "--text-column", "a"],
        None,
        "--text-column-name=a, but these are texts wit",
    ),
    "fields": (["pair", "a"], None, "text 1: 'a': premise and hypothesis were expected, separated by a tab"),
    "few endings": (["swag", "a\tb\tc"], None, "text 1: 'a\\tb\\tc': a context and its endings, at least two, were"),
    "route": (["--file", "routed.jsonl"], None, "Error: routed.jsonl:3: "),
    "route's spelling": (["--file", "routed.jsonl"], None, "no adapter named 'mod'; did you mean 'mood'?"),
    "route of a stream": (["--json"], FILES["routed.jsonl"], "standard input:3: "),
    "no route": (["--file", "unrouted.jsonl"], None, "unrouted.jsonl:2: adapter is empty"),
    "odd route": ([], '{"adapter": 3, "text": "a"}', "standard input:1: adapter is no name"),
    "a route's column": (
        ["--file", "lacking.jsonl"],
        None,
        "adapter 'answers' reads question + context; there are ada",
    ),
    "bases": (["mood", "far", "a"], None, "adapters that answer together need one base, got 2: "),
    "bases of routes": (["--file", "apart.jsonl"], None, "far"),
    "another base": (["mood", "far", "a", "--base", "BASE"], None, "adapter 'far': the adapter was trained on base"),
    "list": (["mood"], '{"text": ["a"]}', "standard input:1: text is ['a'], but a text was expected"),
    "words": (["names"], '{"tokens": [1]}', "tokens is [1], but a text or a list of words was expected"),
    "no words": (["names"], '{"tokens": []}', "standard input:1: tokens is empty"),
    "mixed": (
        ["names"],
        '{"tokens": ["a"]}\n{"tokens": "a"}',
        "standard input:2: tokens is a text, unlike in the rows",
    ),
    "endings": (["choice"], '{"context": "a", "endings": ["b"]}', "but a list of at least 2 endings was expected"),
    "language": (["german"], '{"translation": {"fr": "b"}}', "but a text or an object with 'en' was expected"),
    "messages": (["chat"], '{"messages": [{"role": "user"}]}', "but a text or a list of messages was expected"),
    "surrogate": (["mood"], '{"text": "\\ud83d"}', "standard input:1: text holds half of a surrogate pair"),
    "mask": (["words", "nothing to guess"], None, "'nothing to guess' has no <mask>, the word to predict"),
    "ending": (
        ["mood", "a", "--out", "o.json"],
        None,
        "--out o.json: a name that ends in .jsonl, .csv, .tsv was expec",
    ),
    "two outputs": (["mood", "a", "--out", "o.csv", "--json"], None, "give --out o.csv or --json, not both"),
    "two formats": (["mood", "a", "--format", "csv", "--json"], None, "give --format csv or --json, not both"),
    "no folder": (["mood", "a", "--out", "no/o.csv"], None, "can't write 'no/o.csv': No such file or directory"),
    "folder": (["mood", "a", "--out", "folder.csv"], None, "--out folder.csv is a folder, and a file was expected"),
    "format of a file": (["mood", "-f", "rows.jsonl", "--input-format", "csv"], None, "is for the standard input, got"),
    "bytes": (
        ["mood", "a", "--max-bytes", "lots"],
        None,
        "expected a number of bytes such as 256MB, 1GB or 1000000, got 'lots'",
    ),
    "no bytes": (
        ["mood", "a", "--max-bytes", "0MB"],
        None,
        "expected a number of bytes such as 256MB, 1GB or 1000000, got '0MB'",
    ),
    "few bytes": (["mood", "a", "--max-bytes", "10"], None, "bytes, but max_bytes=10"),
    "batch": (["mood", "a", "--batch-size", "0"], None, "0 is not in the range x>=1"),
}


@pytest.mark.parametrize(("args", "given", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(
    args: list[str], given: str | None, message: str, adapt: Adapt, shop: Shop, tmp_path: Path
) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "folder.csv").mkdir()
    before = sorted(tmp_path.iterdir())
    done = adapt("predict", *(str(shop.folder / "base") if a == "BASE" else a for a in args), input=given)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


def test_a_column_that_comes_late_is_an_error_where_it_has_no_place(
    adapt: Adapt, good: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "REQUESTS", 2)
    rows = '{"text": "a"}\n{"text": "b"}\n{"text": "c", "note": 1}\n'
    assert lines(good("mood", input=rows))[2]["note"] == 1
    for args, text in ((["--format", "csv"], rows), ([], rows.replace("note", "label"))):
        done = adapt("predict", "mood", *args, "--batch-size", 2, input=text)
        assert done.exit_code == 2
        assert re.search("standard input:3: column '(note|label)' is not in the first rows", done.stderr)


def test_a_base_that_comes_late_is_an_error(adapt: Adapt, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "REQUESTS", 1)
    done = adapt("predict", "--batch-size", 1, input=FILES["apart.jsonl"])
    assert [row["adapter"] for row in lines(done.stdout)] == ["mood"]
    assert done.exit_code == 2
    assert "standard input:2: adapter 'far': the adapter was trained on base" in done.stderr


def test_a_file_that_is_changed_meanwhile_is_an_error(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(FILES["rows.jsonl"])
    asked = answering.Answering(streams.from_file(str(path)), shop.registry, ["mood"])
    assert (asked.total, list(asked.columns)) == (2, ["text", "id"])
    path.write_text(FILES["rows.jsonl"] * 2)
    with pytest.raises(DataError, match="was changed while it was being read"):
        next(asked.chunks())


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device"), ValueError])
def test_what_is_not_done_is_not_written(
    error: Any, adapt: Adapt, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "REQUESTS", 2)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    (tmp_path / "old.csv").write_text("old")
    ask = Pool.predict
    asked = []

    def failing(self: Pool, *args: Any, **kwargs: Any) -> Any:
        asked.append([p.name for p in tmp_path.iterdir() if p.name.endswith(".tmp") and p.stat().st_size])
        if len(asked) > 1:
            raise error
        return ask(self, *args, **kwargs)

    monkeypatch.setattr(Pool, "predict", failing)
    for name in ("new.jsonl", "old.csv"):
        asked.clear()
        done = adapt("predict", "mood", "--file", "texts.txt", "--out", name, "--batch-size", 2)
        assert done.exit_code == {KeyboardInterrupt: 130, ValueError: 1}.get(error, 2)
        assert [len(files) for files in asked] == [0, 1]  # the first chunk was written beside
        assert ("Error: can't write" in done.stderr) == isinstance(error, OSError)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old.csv", "texts.txt"]
    assert (tmp_path / "old.csv").read_text() == "old"


def test_a_reader_that_goes_away_ends_it_quietly(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("".join(f"a fine film {i}\n" for i in range(9_000)))
    command = [ADAPT, "predict", "topic", "--file", "texts.txt"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["text"] == "a fine film 0"
        process.stdout.close()
        said = process.stderr.read()
        process.wait()
    assert said == ""
    assert process.returncode == 1


def test_a_slow_stream_is_answered_as_it_comes(shop: Shop, tmp_path: Path) -> None:
    said = shop.say("topic", TEXTS)
    with subprocess.Popen(
        [ADAPT, "predict", "topic"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        guard = threading.Timer(120, process.kill)  # rather than wait for ever
        guard.start()
        for i in (0, 1):
            process.stdin.write(f"{TEXTS[i]}\n")
            process.stdin.flush()
            close(json.loads(process.stdout.readline()), {"text": TEXTS[i], **said[i]})  # before the next one is asked
        process.stdin.write(f"{TEXTS[2]}\n{TEXTS[3][:5]}")
        process.stdin.flush()
        close(json.loads(process.stdout.readline()), {"text": TEXTS[2], **said[2]})
        process.stdin.write(f"{TEXTS[3][5:]}\n{TEXTS[4]}")
        process.stdin.close()
        close(lines(process.stdout.read()), [{"text": t, **a} for t, a in list(zip(TEXTS, said, strict=True))[3:]])
    guard.cancel()
    assert process.returncode == 0


def test_what_has_come_of_a_stream_is_a_chunk(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "REQUESTS", 4)
    reading, writing = os.pipe()
    with open(reading, "rb") as there, open(writing, "wb", buffering=0) as file:
        file.write(b'{"text": "a"}\n{"text": "b"}\n\n')
        began = time.monotonic()
        asked = answering.Answering(streams.from_stream("it", there), shop.registry, ["mood"])
        assert answering.FIRST_SECONDS <= time.monotonic() - began < 5 * answering.FIRST_SECONDS
        assert list(asked.columns) == ["text"]
        chunks = asked.chunks(batch_size=4)
        assert [one.row["text"] for one in next(chunks)] == ["a", "b"]
        file.write(b'{"text": "c"}\r\n{"text": "d", "n": 1}\n{"text"')
        assert [one.row["text"] for one in next(chunks)] == ["c", "d"]
        file.write(b': "e"}\n' + b"".join(b'{"text": "%d"}\n' % i for i in range(6)))
        assert [[one.row["text"] for one in next(chunks)] for _ in range(2)] == [["e", "0", "1", "2"], ["3", "4", "5"]]
        file.write(b'{"text": "end"}')
        file.close()
        assert [(one.line, one.row["text"]) for one in next(chunks)] == [(13, "end")]
        assert list(chunks) == []


def test_a_long_line_comes_in_pieces(shop: Shop) -> None:
    given = streams.from_stream("it", io.BytesIO(b"x" * 200_000 + b"\n" + "é".encode("cp1252") * 3))
    assert list(given) == [(1, {"text": "x" * 200_000}), (2, {"text": "ééé"})]


MEMORY = """
import sys
import threading
from pathlib import Path
from adapterkit.cli import common, main
def advance(self, steps=1, **values):
    if self.progress.tasks[0].description == "answering":
        memory = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("RssAnon"))
        print(int(memory.split()[1]) // 1024, file=sys.stderr)
common.TerminalWatch.advance = advance
main(["predict", "topic", "--file", sys.argv[1], "--out", sys.argv[2], "--batch-size", "512"])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc tells the memory of a process")
def test_many_rows_need_no_more_memory_than_few(shop: Shop, tmp_path: Path) -> None:
    count = 50_000
    with open(tmp_path / "rows.jsonl", "w") as file:
        file.writelines(json.dumps({"text": f"film {i % 50}", "id": i, "x": "x" * 500}) + "\n" for i in range(count))
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "rows.jsonl"), str(tmp_path / "out.jsonl")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    memory = [int(line) for line in done.stderr.splitlines()]
    assert len(memory) == -(-count // 2_048)
    assert memory[-1] - memory[2] < 15
    with open(tmp_path / "out.jsonl") as file:
        assert all(json.loads(line)["id"] == i for i, line in enumerate(file))
