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

ROOT = Path(__file__).parent.parent.parent
FILES = ROOT / "tests" / "fixtures" / "formats"
PAGE = ROOT / "docs" / "reference" / "formats.md"
MADE_HERE = "workbook.xlsx"

ANN = "Ann/B-PER Lee/I-PER lives in Oslo/B-LOC ."
PER = "Ann/B-PER Lee/I-PER lives in Oslo ."
NONE = "No names here ."
WORDS = "read as words (tokens) and tags (ner_tags)"


def spans(what: str, count: int, texts: int) -> str:
    each = "1 span" if count == 1 else f"{count} spans", "1 text" if texts == 1 else f"{texts} texts"
    return f"{what}: {each[0]} of characters in {each[1]} {WORDS}"


EXPECTED: dict[str, tuple[list[Any], list[str]]] = {
    "semicolons.csv": (["Cold soup, again = bad", "A film; fine = good"], ["separated by ';'"]),
    "quoted.tsv": (["two\nlines = bad", *["plain = good"] * 3], []),
    "spreadsheet.csv": (
        ["ham, hi, you, 0", "spam, yo, more, 1"],
        [
            "column 5 has no name and no content: left out",
            "column 1 has no name: read as 'column_1', filled in 2 rows",
            "column 4 has no name: read as 'column_4', filled in 1 row",
            "1 row of empty cells skipped",
        ],
    ),
    "title.csv": (
        ["the soup is cold = bad", "the rice is warm = good"],
        ["left out above the header: Survey of soups, autumn;; | ;;", "separated by ';'"],
    ),
    "spaces.csv": (["Cold soup, again = bad", "A film = good"], ["separated by ',', spaces after them removed"]),
    "windows-1251.csv": (
        ["Отличный фильм = хорошо", "Ужасная гостиница = плохо"],
        ["not UTF-8; read as Windows-1251: detected, not certain (--encoding overrules)"],
    ),
    "headerless.csv": (["cold soup = bad", "a film = good", "no seats = bad", "too late = bad"], []),
    MADE_HERE: (["Cold soup = 1", "A film = 2.5"], ["sheet 'rows' is read; not read: notes"]),
    "conll2003.txt": (
        ["Ann/B-PER lives", "Oslo/B-LOC"],
        ["read as CoNLL: a word and its tag per line", "1 -DOCSTART- line skipped"],
    ),
    "word-lists.csv": (
        ["Ann/B-PER lives", "Oslo/B-LOC is old"],
        ["columns 'Sentence' and 'Tag' hold words and tags as texts: read as lists"],
    ),
    "mit.bio": (
        ["who stars/B-REL in jaws/B-TITLE"],
        ["words in column 1, tags in column 0 of 2, from 0"],
    ),
    "cluener.jsonl": (
        ["安/B-name 娜/I-name 在 奥/B-address 斯/I-address 陆/I-address"],
        [spans("column 'label'", 2, 1), "spans whose end is their last character, corrected by their text: 2"],
    ),
    "germeval.conll": (
        ["Ann/B-PER lebt"],
        ["words in column 1, tags in column 2 of 4, from 0", "1 comment line skipped"],
    ),
    "ontonotes.conll": (
        ["Ann/B-PERSON Lee/I-PERSON left"],
        [
            "words in column 3, tags in column 10 of 11, from 0, brackets read as B-, I- and O",
            "2 comment lines skipped",
        ],
    ),
    "universal.conllu": (
        ["De/ADP le/DET vin/NOUN"],
        ["2 comment lines skipped", "1 line of a range of words (1-2) skipped", "1 empty node (2.1) skipped"],
    ),
    "doccano.jsonl": (
        [NONE, ANN, PER],
        [
            spans("column 'label'", 3, 3),
            "overlapping or nested spans left out (the first and outermost one counts): 1",
            "spans outside of their text, or without a word, left out: 1",
        ],
    ),
    "doccano-relations.jsonl": ([ANN], [spans("column 'entities'", 2, 1)]),
    "doccano-numbers.jsonl": (["Ann/B-2 Lee/I-2 lives in Oslo ."], [spans("column 'annotations'", 1, 1)]),
    "doccano-classification.jsonl": (
        ["Ann Lee lives in Oslo. = ['residence']", "No names here. = ['other', 'short']"],
        [],
    ),
    "prodigy.jsonl": (
        [ANN, NONE],
        [
            "1 row with the answer 'reject' left out",
            "1 row with the answer 'ignore' left out",
            spans("column 'spans'", 2, 2),
            "words cut where a span begins or ends inside of them: 1",
        ],
    ),
    "prodigy-textcat.jsonl": (["A fine film = POS"], ["1 row with the answer 'reject' left out"]),
    "prodigy-choice.jsonl": (
        ["A fine film = POS", "Cold soup = NEG"],
        ["1 row with no accepted option left out", "accepted options read as labels (label)"],
    ),
    "label-studio.json": (
        [ANN, NONE],
        [
            "1 task without an annotation left out",
            "1 further annotation of a task not read",
            "1 result without a span or a choice not read",
            spans("column 'spans'", 2, 2),
        ],
    ),
    "label-studio-choices.json": (["A fine film = good", "Cold soup = bad"], ["choices read as labels (sentiment)"]),
    "label-studio-min.json": (
        [PER, "😀 Ann/B-PER Lee/I-PER"],
        [
            spans("column 'label'", 2, 2),
            "spans with offsets in units of UTF-16, corrected by their text: 1",
            "further labels of a span left out: 1",
        ],
    ),
    "label-studio-min-choices.json": (
        ["A fine film = ['film', 'praise']", "Cold soup = ['food']"],
        ["choices read as lists of labels (topic)"],
    ),
    "spacy.json": ([ANN, NONE], [spans("column 'entities'", 2, 2)]),
    "spacy.jsonl": ([PER], [spans("column 'ents'", 1, 1)]),
    "spacy-categories.json": (
        ["A fine film = POS", "Cold soup = NEG"],
        ["cats read as categories with a score of at least 0.5 (label)"],
    ),
    "spacy-annotator.json": ([PER], [spans("column 'entities'", 1, 1)]),
    "dataturks.jsonl": ([PER], [spans("column 'annotation'", 1, 1)]),
    "entities.jsonl": (["Ann Lee lives in Oslo/B-city .", NONE], [spans("column 'entities'", 1, 2)]),
    "brat": (
        ["Ann/B-PER Lee/I-PER lives in", "Oslo/B-LOC . No/B-NONE names/I-NONE here ."],
        [
            spans("BRAT", 3, 2),
            "spans left out because their text isn't at their offsets: 1",
            "1 relation, event or note not read",
        ],
    ),
    "webanno.tsv": (
        ["Ann/B-PER Lee/I-PER lives in Oslo/B-GEO_LOC .", "Northsea/B-LOC -coast"],
        [
            spans("layer 'webanno.custom.NamedEntity|value'", 3, 2),
            "overlapping or nested spans left out (the first and outermost one counts): 1",
            "words cut where a span begins or ends inside of them: 1",
        ],
    ),
    "fasttext.txt": (
        ["A fine film = ['good']", "Go away, cold soup = ['bad', 'rude']"],
        ["read as fastText: __label__ words are lists of labels"],
    ),
    "kaggle-ner.csv": (
        ["Ann/B-PER lives", "Oslo/B-LOC"],
        ["3 rows of a word each read as 2 sentences, by column 'Sentence #'"],
    ),
    "label-studio.csv": ([PER, NONE], [spans("column 'label'", 1, 2)]),
    "lighttag.json": (
        [PER],
        ["rows read from 'examples'; not read: relations, schema", spans("column 'annotations'", 1, 1)],
    ),
    "pandas.json": (["A fine film = good", "Cold soup = bad"], ["an object of columns, text, label: read as rows"]),
    "columns.json": (["A fine film = good", "Cold soup = bad"], ["an object of columns, text, label: read as rows"]),
    "pandas-split.json": (["A fine film = good", "Cold soup = bad"], []),
    "by-key.json": (
        ["A fine film = good", "Cold soup = bad"],
        ["an object of 2 rows by key: the keys are not read"],
    ),
    "viewer.json": (["A fine film = good"], ["rows read from 'rows'; not read: features, num_rows_total"]),
    "wikiann.txt": (
        ["Ann/B-PER lives", "Oslo/B-LOC"],
        ["read as CoNLL: a word and its tag per line", "'en:' before every word left out"],
    ),
    "arc.jsonl": (
        ["Which is cold? : ice / fire / mud / sky = A", "Which burns? : ice / fire / mud = B"],
        ["2 questions with a stem: read as question and choices"],
    ),
    "openbookqa.jsonl": (
        ["Frost is a sign of : cold / heat = A"],
        ["1 question with a stem: read as question and choices"],
    ),
    "commonsenseqa.jsonl": (
        ["Where is snow? : desert / mountain = B"],
        ["1 question with a stem: read as question and choices"],
    ),
    "race.json": (
        ["It snowed. Ann fell. It was _ . : rain / snow = B", "It snowed. Ann fell. Who fell? : Ann / Lee = A"],
        ["1 article with several questions: a row for each"],
    ),
    "hellaswag.jsonl": (["A man skates. he : turns. / melts. = 0"], []),
    "piqa.jsonl": (["Cool a drink : Add ice. / Add fire. = 0"], []),
    "winogrande.jsonl": (
        [
            "The ice beat the fire because _ was cold. : ice / fire = 1",
            "The ice beat the fire because _ was out. : ice / fire = 2",
        ],
        [],
    ),
    "alphanli.jsonl": (
        [
            "It snowed all night. I slipped. : The path was dry. / The path was icy. = 2",
            "It was hot. I swam. : The lake was near. / The lake was frozen. = 1",
        ],
        [],
    ),
    "sciq.json": (
        [
            "Ice melts when it is warm. What melts? : ice / fire / light / air = ice",
            " What burns? : wood / water / stone / ice = wood",
        ],
        [],
    ),
    "boolq.jsonl": (
        ["is ice cold + Ice is frozen water. = True", "is fire cold + Fire is hot. = False"],
        [],
    ),
}
OVERLAP = "1 overlapping or nested span left out (the first and outermost one counts)"
OUTSIDE = "1 span without a word of its sentence, or without a label, left out"
LEE = ["Ann/B-PER Lee/I-PER left"]
EXPECTED |= {
    "scierc.jsonl": (
        ["Ann/B-PER Lee/I-PER left .", "Oslo/B-LOC snows"],
        ["1 document of DyGIE++", OUTSIDE, OVERLAP, "1 relation, event or cluster not read"],
    ),
    "spert.json": (LEE, ["1 sentence of SpERT"]),
    "gliner.json": (LEE, ["1 sentence of GLiNER"]),
    "w2ner.json": (LEE, ["1 sentence of W2NER", OUTSIDE]),
    "words.csv": (
        ["Ann/B-PER lives", ", Oslo/B-LOC"],
        ["1 row of empty cells skipped", "4 rows of a word each read as 2 sentences, which empty rows end"],
    ),
    "texts.json": (
        ["A fine film", "Cold soup", "No seats"],
        ["2 bare texts read as column 'text'", "1 row is JSON in a JSON text: read as its object"],
    ),
}
SOUP = ["A fine film = good", "Cold soup = bad"]
EXPECTED |= {
    "gzip.csv.gz": (SOUP, []),
    "bzip2.jsonl.bz2": (SOUP, []),
    "xz.tsv.xz": (SOUP, []),
    "zstandard.jsonl.zst": (SOUP, []),
    "archive.zip": (SOUP, ["'reviews/reviews.csv' is read; not read: reviews/LICENSE"]),
    "rasa.yml": (
        ["from Oslo/B-city to Lima/B-city", "go home"],
        [
            "1 part without an intent (synonyms, lookup tables, regular expressions) not read",
            spans("column 'entities'", 2, 2),
        ],
    ),
    "rasa.json": (["to Oslo/B-city"], [spans("column 'entities'", 1, 1)]),
    "snips.json": (["to Oslo/B-goal", "go home"], ["2 utterances in pieces", spans("column 'entities'", 1, 2)]),
    "luis.json": (["to Oslo/B-city"], [spans("column 'entities'", 1, 1)]),
    "dialogflow.json": (["to Oslo/B-city"], ["1 utterance in pieces", spans("column 'entities'", 1, 1)]),
    "newsqa.json": (
        ["Who fell? : Ann at 0", "Why? : nothing"],
        ["1 story of NewsQA", "1 question without an answer that annotators agree on left out"],
    ),
    "tydiqa.jsonl": (
        ["Who fell? : Anna at 3", "Why? : nothing"],
        ["3 questions of TyDi QA", "1 question with yes or no as its answer left out"],
    ),
    "record.jsonl": (["@placeholder fell down. : Ann at 0, Ann at 21"], ["1 passage of ReCoRD"]),
    "oasst.jsonl": (
        ["user: Hi; assistant: Hello."],
        [
            "2 trees of messages",
            "1 reply that is not the best of its message not read",
            "1 tree without a reply of the assistant left out",
        ],
    ),
    "spacy-2.json": (["Ann/B-PER Lee/L-PER left", "Oslo/U-LOC snows"], ["1 document of spaCy 2"]),
    "argilla-1.jsonl": (
        ["A fine film = good", "Cold tea = bad"],
        ["1 record without a submitted response left out", "1 further response to a question not read"],
    ),
    "argilla-2.json": (
        [PER.replace(" .", ".").replace("Oslo.", "Oslo .")],
        ["1 record with suggestions, which are not read", spans("column 'entities'", 1, 1)],
    ),
    "label-studio-ratings.json": (["A fine film = 5", "Cold soup = 1"], []),
    "label-studio-taxonomy.json": (["A fine film = Arts / Film"], ["choices read as labels (topic)"]),
    "label-studio-textarea.json": (["Ein guter Film -> A fine film"], []),
    "doccano-seq2seq.jsonl": (["Ein guter Film = ['A fine film']", "Kalte Suppe = ['Cold soup']"], []),
}
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
