"""adapt predict: files, texts, the standard input, and rows of every task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cli import Adapt
from tests.helpers.rows import ASK
from tests.helpers.shop import TEXTS, WRITE, Shop, close, lines


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_a_text_column_of_another_name_is_remarked_on(adapt: Adapt, shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("review,id\na dull film,1\n")
    assert f"remark     {path}: column 'review' is read as 'text'" in adapt("predict", "mood", str(path)).stderr
    path.write_text("text,id\na dull film,1\n")
    assert "is read as" not in adapt("predict", "mood", str(path)).stderr
