"""Change data files of every format, and see that each is read, or refused in one line: never a traceback.

    python -m tests.fuzz_files --cases 200000 --seed 0

Rows are read as a run reads them (with bad rows skipped or not, through the cache or not) and as predict does.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import openpyxl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from adapterkit import AdapterkitError
from adapterkit.data import streams
from adapterkit.data.input_rows import STREAMED
from adapterkit.data.readers import READERS, BadRow, ReadOptions, open_rows
from adapterkit.data.splits import read
from adapterkit.errors import printable
from adapterkit.settings import DataOptions
from tests.fuzz import Wrong, in_memory, in_time
from tests.helpers.mutations import BYTES, JSON, JSON_WEIGHTS, json_change

FILES = Path(__file__).parent / "fixtures" / "formats"
SQUAD = {"question": "Who?", "id": 1, "answers": [{"text": "Ann", "answer_start": 0}]}
TABLE = [
    {"text": "Ann Lee", "label": 1, "spans": [{"start": 0, "end": 3, "label": "PER"}], "meta": {"a": [1, None]}},
    {"text": "Cold soup", "label": -1, "spans": [], "meta": None},
]
PIECES = [
    "\n",
    "\r",
    "\t",
    ";",
    ",",
    '"',
    "'",
    "|",
    "\\",
    "\0",
    "\ufeff",
    "#",
    "-DOCSTART-",
    "1-2",
    "2.1",
    "__label__x",
]
PIECES += [" ", "\u2028", "sep=;\n", "é", "\ud83d", "[1]", "(A*", "*)", "_", "NaN", "#begin document", "\x1a", "😀"]
ENCODINGS = [None] * 12 + ["utf-8", "cp1252", "gb18030", "utf-16", "utf-32", "shift_jis", "utf-7", "idna", "latin-1"]
SEPARATORS = [None] * 12 + [",", ";", "\t", "|", " ", "\0", "a"]
TASKS = [None, None, "token-classification", "text-classification", "text-generation"]


def originals(folder: Path) -> list[tuple[str, bytes]]:
    """Return the files of all formats, with their names."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [(path.name, path.read_bytes()) for path in sorted(FILES.iterdir()) if path.is_file()]
    found += [("squad.json", json.dumps({"data": [{"paragraphs": [{"context": "Ann.", "qas": [SQUAD]}]}]}).encode())]
    found += [("plain.txt", b"One text.\n\nAnother one.\n"), ("rows.json", json.dumps(TABLE).encode())]
    found += [("doc.ann", (FILES / "brat" / "doc.ann").read_bytes())]
    table = pa.Table.from_pylist(TABLE)
    pyarrow.parquet.write_table(table, folder / "rows.parquet")
    pyarrow.feather.write_feather(table, str(folder / "rows.feather"))
    with pa.ipc.new_stream(str(folder / "rows.arrow"), table.schema) as writer:
        writer.write_table(table)
    book = openpyxl.Workbook()
    book.active.append(["text", None, "label"])
    book.active.append(["Ann", 1, 2.5])
    book.save(folder / "rows.xlsx")
    return found + [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]


def pieces(data: bytes, draw: random.Random) -> bytes:
    """Insert, delete, repeat or swap pieces of a text."""
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(draw.choice((1, 1, 2, 5))):
        at, other = sorted(draw.randrange(len(text) + 1) for _ in range(2))
        way = draw.choice(("insert", "insert", "delete", "repeat", "replace", "lines"))
        if way == "lines":
            lines = text.splitlines(keepends=True)
            draw.shuffle(lines)
            text = "".join(lines)
        elif way == "replace":
            text = text.replace(draw.choice(PIECES[:9]), draw.choice(PIECES))
        else:
            middle = {"insert": draw.choice(PIECES), "delete": "", "repeat": text[at:other] * 2}[way]
            text = text[:at] + middle + text[at if way == "insert" else other :]
    return text.encode("utf-8", "surrogatepass" if draw.random() < 0.5 else "replace")


def lines_of_json(data: bytes, draw: random.Random) -> bytes:
    """Change one line of JSON lines."""
    lines = [line for line in data.splitlines(keepends=True) if line.strip()]
    at = draw.randrange(len(lines))
    lines[at] = json_change(lines[at], draw) + b"\n"
    return b"".join(lines)


def recoded(data: bytes, draw: random.Random) -> bytes:
    text = data.decode("utf-8", "replace")
    return text.encode(
        draw.choice(("cp1252", "cp1251", "gb18030", "utf-16", "utf-16-le", "utf-32", "cp932")), "replace"
    )


def changed(name: str, data: bytes, draw: random.Random) -> tuple[str, bytes]:
    """Return the kind of a change, and the changed file."""
    ways: dict[str, Callable[[bytes, random.Random], bytes]] = dict(BYTES)
    if name.endswith(("json", "jsonl")):
        ways |= {"json": JSON[draw.choices(list(JSON), JSON_WEIGHTS)[0]] if name.endswith("n") else lines_of_json}
        ways["json again"] = ways["json 3"] = ways["json 4"] = ways["json"]
    if not name.endswith(("parquet", "arrow", "feather", "xlsx")):
        ways |= {"pieces": pieces, "pieces again": pieces, "pieces 3": pieces, "recoded": recoded}
    ways["same"] = lambda data, draw: data
    way = draw.choice(list(ways))
    return way.split()[0], ways[way](data, draw) if data else data


def tried(path: Path, draw: random.Random) -> str:
    """Read a file in one of the ways of the program; return the outcome."""
    words = draw.choice((None, None, None, 0, 1, -1, 7))
    tags = draw.choice((None, None, None, 1, 2, -1, 9))
    encoding, separator = draw.choice(ENCODINGS), draw.choice(SEPARATORS)
    task = draw.choice(TASKS)
    names = draw.choice(((), (), (), ("a", "b"), ("a", "a")))
    options = ReadOptions(
        separator=separator, column_names=names, encoding=encoding, word_column=words, tag_column=tags, task=task
    )
    way = draw.choice(("rows", "rows", "predict", "cached", "stream"))
    if way == "rows":
        with open_rows(str(path), options) as (source, numbered):
            read_rows = [row for _, row in numbered]
        assert all(isinstance(note, str) for note in source.notes)
        return "read" if all(isinstance(row, dict) for row in read_rows) else "read, with bad rows"
    if way == "predict":
        return f"read {min(len(list(streams.from_file(str(path), options))), 1)}"
    if way == "stream":
        with path.open("rb") as file:
            kind = path.suffix[1:] if path.suffix[1:] in STREAMED else None
            list(streams.from_stream("it", file, kind, options))
        return "streamed"
    more: dict[str, Any] = {"skip_bad_rows": draw.random() < 0.7}
    given = DataOptions(encoding=encoding, word_column=words, tag_column=tags, **more)
    columns = draw.choice((None, ["text"], ["tokens", "ner_tags"], []))
    data = read(str(path), given, notes=[], columns=columns, task=task)
    return "cached" if data[0] and data[-1] else "nothing"


def fuzz(folder: Path, cases: int, seed: int) -> Counter[tuple[str, str]]:
    """Try so many cases; return how often each format had each outcome. Raises `Wrong` for a traceback."""
    outcomes: Counter[tuple[str, str]] = Counter()
    files = originals(folder / "originals")
    (folder / "cases").mkdir()
    wrong: list[str] = []
    for number in range(cases):
        draw = random.Random(f"{seed} {number}")
        name, data = draw.choice(files)
        way, content = changed(name, data, draw)
        if draw.random() < 0.08:  # under the name of another format
            name = Path(name).stem + draw.choice(list(READERS))
        path = folder / "cases" / name
        path.write_bytes(content)
        if name.endswith(".ann") and draw.random() < 0.9:
            text = (FILES / "brat" / "doc.txt").read_bytes()
            path.with_suffix(".txt").write_bytes(changed("doc.txt", text, draw)[1])
        try:
            with in_time(5 + len(content) / 500_000):  # two million rows of {} take seconds
                outcome = tried(path, draw)
        except AdapterkitError as error:
            text, outcome = str(error), f"refused: {type(error).__name__}"
            if len(text.splitlines()) != 1 or printable(text) != text:
                wrong.append(
                    f"case {number} of seed {seed}, {name} {way}: an error that isn't one line: {text[:300]!r}"
                )
        except Exception as error:
            wrong.append(f"case {number} of seed {seed}, {name} {way}: {type(error).__name__}: {str(error)[:300]}")
            outcome = "WRONG"
            if len(wrong) == 20:
                break
        outcomes[path.suffix, outcome] += 1
        for file in (folder / "cases").iterdir():
            file.unlink()
        if number % 500 == 499:
            shutil.rmtree(Path(datasets.config.HF_DATASETS_CACHE, "adapterkit"), ignore_errors=True)
    if wrong:
        raise Wrong("\n".join(wrong))
    assert not any(isinstance(value, BadRow) for value in outcomes)
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    began = time.monotonic()
    with in_memory() as folder:
        datasets.config.HF_DATASETS_CACHE = str(folder / "cache")
        outcomes = fuzz(folder, args.cases, args.seed)
    for suffix in sorted({suffix for suffix, _ in outcomes}):
        print(f"{suffix}: " + ", ".join(f"{o} {n}" for (s, o), n in sorted(outcomes.items()) if s == suffix))
    print(f"{sum(outcomes.values())} cases of seed {args.seed} in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
