"""Every line of docs/reference/formats.md names a file of tests/fixtures/formats, which is read as it states."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from adapterkit.data.readers import ReadOptions, open_rows, rows
from adapterkit.errors import DataError
from adapterkit.tasks import TASKS, infer_task
from adapterkit.tasks.choices import choices_of
from tests.helpers.format_files import EXPECTED, MADE_HERE

ROOT = Path(__file__).parent.parent.parent
FILES = ROOT / "tests" / "fixtures" / "formats"
PAGE = ROOT / "docs" / "reference" / "formats.md"

OPTIONS = {
    "germeval.conll": ReadOptions(tag_column=2),
    "headerless.csv": ReadOptions(column_names=("label", "text")),
}
REFUSED = {
    "a table without a header": (
        "a.csv",
        "bad,a\ngood,b\nbad,c\nbad,d\n",
        "a header was expected, but 'bad' occurs in 2",
    ),
    "rows of other widths": ("a.csv", "a;b\n1;2\n1;2;3\n", r"a\.csv:3: 3 cells, but the header has 2 columns"),
    "a name twice": ("a.csv", "a,a\n1,2\n", "column 'a' occurs twice in the header"),
    "an encoding that isn't clear": ("a.csv", "a,b\nmañana,x\n".encode("cp1252"), "the encoding isn't clear"),
    "columns of other numbers": ("a.conll", "a B\nb\n", r"a\.conll:2: 1 column, and 2 were expected"),
    "several splits in a file": ("a.json", '{"train": [{"a": 1}], "test": [{"a": 1}]}', "save each split as a file"),
    "DocBin": ("a.spacy", b"\x00", "files that can be read end in"),
    "CoQA": ("a.json", '{"data": [{"story": "a", "questions": []}]}', r"a\.json:1: CoQA's answers are free texts"),
    "TriviaQA": ("a.jsonl", '{"Question": "a", "Answer": {"Value": "b"}}\n', r"a\.jsonl:1: TriviaQA's evidence"),
    "MultiRC": (
        "a.jsonl",
        '{"idx": 0, "passage": {"text": "a", "questions": []}}\n',
        r"a\.jsonl:1: MultiRC has several right answers to a question; write a row for each answer",
    ),
    "YAML of something else": ("a.yml", "a: 1\n", "a.yml:1: Rasa's training data was expected"),
    "text that is no YAML": ("a.yml", "nlu:\n- [\n", "a.yml:3: not YAML"),
    "an entity that is no JSON": (
        "a.yml",
        "nlu:\n- intent: a\n  examples: |\n    - [b]{c}\n",
        r"a\.yml:1: an entity was expected in '\{c\}'",
    ),
    "UIMA CAS": ("a.xmi", "<xmi/>", "files that can be read end in"),
    "BRAT without its text": ("a.ann", "T1\tA 0 1\ta\n", "the text is expected beside it"),
    "WebAnno TSV 2": ("a.tsv", " # webanno.custom.NamedEntity | value\n", "WebAnno TSV before version 3"),
    "fastText without a label": ("a.txt", "__label__a b\n" * 10 + "c\n", r"a\.txt:11: no __label__"),
}


def table() -> list[str]:
    """Return the file that each line of the page's tables names."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "| file |" not in line]
    return [name[1] for line in lines if (name := re.match(r"\|[^|]+\| `([^`|]+)` \|", line))]


def as_choices(row: dict[str, Any]) -> str:
    """Return a row of choices, or of a pair of texts, by the columns that its task reads."""
    task = TASKS[infer_task(row)]().with_columns(list(row))
    if task.name == "text-classification":
        return " + ".join(row[name] for name in task.text_column_name) + f" = {row[task.label_column_name]}"
    columns = filter(None, (task.context_column_name, task.question_column_name))
    values = [row[name] for name in task.endings_column_name]
    endings, _ = choices_of(values[0] if len(values) == 1 else values)
    return f"{' '.join(row[name] for name in columns)} : {' / '.join(endings)} = {row[task.label_column_name]}"


def as_text(row: dict[str, Any]) -> str:
    if "tokens" in row:
        pairs = zip(row["tokens"], row.get("ner_tags", row.get("tags")), strict=True)
        return " ".join(word if tag == "O" else f"{word}/{tag}" for word, tag in pairs)
    if "messages" in row:
        return "; ".join(f"{message['role']}: {message['content']}" for message in row["messages"])
    if "completion" in row:
        return as_text({"messages": [*row["prompt"], *row["completion"]]})
    if "context" in row and "answer" in row:
        return f"{row['question']} : {row['answer']}"
    if "target" in row:
        return f"{row['source']} -> {row['target']}"
    if "answers" in row:
        places = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
        return f"{row['question']} : {', '.join(f'{text} at {start}' for text, start in places) or 'nothing'}"
    if "text" not in row and "column_1" not in row:
        return as_choices(row)
    label = next((row[name] for name in ("label", "sentiment", "topic", "rating") if name in row), None)
    if label is not None:
        return f"{row['text']} = {label}"
    return ", ".join(
        row[name] for name in sorted(row, key=lambda name: (name == "column_1", name != "v1", name != "v2"))
    )


def test_every_line_names_a_file_and_every_file_is_named_once() -> None:
    named = table()
    assert sorted(named) == sorted(EXPECTED)
    assert sorted({*named} - {MADE_HERE}) == sorted(path.name for path in FILES.iterdir())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_is_read_as_the_page_states(name: str, tmp_path: Path) -> None:
    path = FILES / name
    if name == MADE_HERE:
        book = openpyxl.Workbook()
        book.active.title = "rows"
        for line in (["text", "label"], ["Cold soup", 1], ["A film", 2.5]):
            book.active.append(line)
        book.create_sheet("notes").append(["x"])
        book.save(path := tmp_path / name)
    with open_rows(str(path), OPTIONS.get(name)) as (source, numbered):
        read = [row for _, row in numbered]
    assert ([as_text(row) for row in read], source.notes) == EXPECTED[name]


@pytest.mark.parametrize(("name", "content", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_an_error(name: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=message):
        list(rows(str(path)))
