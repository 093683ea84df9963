"""Read the rows of a data file, one at a time, each with the line it stands on."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from .errors import DataError

Row = dict[str, Any]
VERSION = 1
"""Of what the readers make of a file. What they made is kept, so raise it with every change to that."""


@dataclass(frozen=True)
class Bad:
    """A row that can't be read; the rows after it can."""

    reason: str


Found = Iterator[tuple[int, Row | Bad]]
"""Rows with the line that each begins on, or that it goes wrong on; where a format has no lines, with their number."""


@dataclass
class Source:
    """What rows are read from, and how far the reading has come, in bytes of the file or in rows."""

    name: str
    size: int
    file: BinaryIO = field(default_factory=io.BytesIO)
    tag_column: int | None = None
    unit: str = "line"
    reached: int = 0

    @cached_property
    def encoding(self) -> str:
        """The encoding of the file, found by reading all of it once."""
        return encoding(self.name)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the file, their ends as they are. Bytes of no character become lone surrogates."""
        try:
            with io.TextIOWrapper(self.file, self.encoding, errors="surrogateescape", newline="") as text:
                yield from text
        except UnicodeDecodeError as error:
            raise DataError(f"{self.name}: not the UTF-16 that its first bytes announce: {error.reason}") from error
        self.reached = self.size

    def position(self) -> int:
        """Return how much of `size` was read."""
        return max(self.reached, 0 if self.file.closed else self.file.tell())

    def fail(self, line: int, reason: str) -> NoReturn:
        """Raise `DataError` for what spoils the whole file."""
        raise DataError(f"{self.name}:{line}: {reason}")


def rows(path: str, tag_column: int | None = None) -> Iterator[tuple[int, Row]]:
    """Yield (line, row) for each row of a file in one of the formats of `READERS`.

    Raises `DataError`, with file and line, at the first row that can't be read; `opened` goes on.
    """
    with opened(path, tag_column) as (source, found):
        for line, row in found:
            if isinstance(row, Bad):
                source.fail(line, row.reason)
            yield line, row


@contextmanager
def opened(path: str, tag_column: int | None = None) -> Iterator[tuple[Source, Found]]:
    """Open a file and hand out its rows, none of them read yet; a row that can't be read comes as a `Bad`.

    Raises `DataError` for a file that is missing, of an unknown kind, or not of the kind that its name says.
    """
    with open_file(path) as file:
        source = Source(path, os.fstat(file.fileno()).st_size, file, tag_column)
        yield source, READERS[Path(path).suffix.lower()](source)


def open_file(path: str) -> io.BufferedReader:
    """Open a data file, or raise `DataError` and say which files there are."""
    if Path(path).suffix.lower() not in READERS:
        raise DataError(f"{path}: files that can be read end in {', '.join(READERS)}")
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise DataError(f"no file '{path}'{_nearby(path)}") from None
    except IsADirectoryError:
        raise DataError(f"'{path}' is a folder, and a file was expected") from None
    except OSError as error:
        raise DataError(f"'{path}' can't be read: {error.strerror}") from None


def encoding(path: str) -> str:
    """Return the encoding of a text file: UTF-8 or UTF-16 with or without a mark, else Windows-1252.

    Latin-1 files come out right too, their printable characters being the same.
    """
    with open(path, "rb") as file:
        start = file.read(4)
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            return "utf-16"
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while piece := file.read(1 << 20):
                decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8-sig"


def _nearby(path: str) -> str:
    folder, suffix = Path(path).parent, Path(path).suffix
    files = [p for p in folder.iterdir() if p.suffix.lower() in READERS] if folder.is_dir() else []
    names = [p.name for p in sorted(files, key=lambda p: (p.suffix != suffix, p.name))][:8]
    return f"; '{folder}' holds {', '.join(names)}" if names else ""


_UNDECODED = re.compile("[\udc80-\udcff]")
UNDECODED = "bytes that are neither UTF-8 nor Windows-1252"


def _undecoded(text: str) -> bool:
    return not text.isascii() and _UNDECODED.search(text) is not None


class _Lines(Iterator[str]):
    """The lines of a file for csv.reader, to be had again where a quote isn't closed on the lines it took."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines, self.again = iter(lines), deque[str]()
        self.taken: list[str] = []

    def __next__(self) -> str:
        line = self.again.popleft() if self.again else next(self.lines)
        self.taken.append(line)
        return line

    def give_back(self) -> None:
        """Keep the first of the lines taken, and hand out the others once more."""
        self.again.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]


def _csv(source: Source) -> Found:
    csv.field_size_limit(1 << 30)
    lines = _Lines(source.lines())
    table = csv.reader(lines, strict=True)
    line, header = 1, None  # a quoted cell may hold line ends, so a row begins where the one before ended
    while True:
        lines.taken.clear()
        try:
            cells: list[str] = next(table)
            row = UNDECODED if _undecoded("".join(lines.taken)) else cells
        except StopIteration:
            return
        except csv.Error as error:
            lines.give_back()
            row = str(error)
        if row and header is None:
            header = _header(source, line, row)
        elif row and header is not None:
            yield line, Bad(row) if isinstance(row, str) else _row(header, row)
        line += len(lines.taken)


def _tsv(source: Source) -> Found:
    header: list[str] | None = None
    for number, text in enumerate(source.lines(), start=1):
        if not (cells := text.rstrip("\r\n")):
            continue
        row = UNDECODED if _undecoded(text) else [_unquoted(cell) for cell in cells.split("\t")]
        if header is None:
            header = _header(source, number, row)
        else:
            yield number, Bad(row) if isinstance(row, str) else _row(header, row)


def _unquoted(cell: str) -> str:
    """Take off quotes that enclose a whole cell; tsv files are written with them and without."""
    inner = cell[1:-1]
    if len(cell) >= 2 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell


def _row(header: list[str], cells: list[str]) -> Row | Bad:
    if len(cells) != len(header):
        return Bad(f"{len(cells)} cells, but the header has {len(header)} columns")
    return dict(zip(header, cells, strict=True))


def _header(source: Source, line: int, cells: list[str] | str) -> list[str]:
    if isinstance(cells, str):
        source.fail(line, cells)
    names = [cell.strip() for cell in cells]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        source.fail(line, f"column '{twice}' stands in the header twice")
    return names


def _txt(source: Source) -> Found:
    for number, line in enumerate(source.lines(), start=1):
        if line.strip():
            yield number, Bad(UNDECODED) if _undecoded(line) else {"text": line.rstrip("\r\n")}


def _jsonl(source: Source) -> Found:
    return _json_lines(source.lines())


def _json_lines(lines: Iterable[str]) -> Found:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if _undecoded(line):
            yield number, Bad(UNDECODED)
            continue
        try:
            yield number, _object(json.loads(line))
        except json.JSONDecodeError as error:
            yield number, Bad(f"not JSON: {error.msg} at character {error.pos + 1}")
        except (ValueError, RecursionError) as error:
            yield number, Bad(f"JSON that can't be read: {error}")


def _object(value: Any) -> Row | Bad:
    return value if isinstance(value, dict) else Bad(f"a JSON object was expected, not a {type(value).__name__}")


def _json(source: Source) -> Found:
    """Read a list of objects, {"data": [...]}, or SQuAD. The file is held in memory whole, as JSON has no rows."""
    text = "".join(source.lines())
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith("{"):  # lines of JSON under the name of JSON
            yield from _json_lines(io.StringIO(text, newline=""))
            return
        source.fail(error.lineno, f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        source.fail(1, f"JSON that can't be read: {error}")
    if bad := _UNDECODED.search(text):
        source.fail(text.count("\n", 0, bad.start()) + 1, UNDECODED)
    source.unit = "row"
    entries = whole.get("data") if isinstance(whole, dict) else whole
    if not isinstance(entries, list):
        given = f"an object of {', '.join(list(whole)[:6]) or 'nothing'}" if isinstance(whole, dict) else repr(whole)
        raise DataError(f'{source.name}: a list of objects or {{"data": [...]}} was expected, not {given[:80]}')
    squad = any(isinstance(entry, dict) and "paragraphs" in entry for entry in entries)
    yield from enumerate(_squad(entries) if squad else map(_object, entries), start=1)


def _squad(articles: list[Any]) -> Iterator[Row | Bad]:
    """Yield a row for each question of SQuAD v1.1 or v2.0, and one `Bad` for an article or paragraph without any."""
    for article in articles:
        if fault := _lacks(article, "article", paragraphs=list):
            yield Bad(fault)
            continue
        for paragraph in article["paragraphs"]:
            if fault := _lacks(paragraph, f"paragraph of '{article.get('title', '')}'", context=str, qas=list):
                yield Bad(fault)
                continue
            for question in paragraph["qas"]:
                yield _question(str(article.get("title", "")), paragraph["context"], question)


def _question(title: str, context: str, asked: Any) -> Row | Bad:
    name = f"question '{asked.get('id')}'" if isinstance(asked, dict) else "question"
    if fault := _lacks(asked, name, id=str, question=str, answers=list):
        return Bad(fault)
    if asked.get("is_impossible") and asked["answers"]:
        return Bad(f"{name} is_impossible, and has answers; none were expected")
    for answer in asked["answers"]:
        if fault := _lacks(answer, f"answer of {name}", text=str, answer_start=int):
            return Bad(fault)
        text, start = answer["text"], answer["answer_start"]
        if not text or start < 0 or not context.startswith(text, start):
            there = context[max(start, 0) : max(start, 0) + max(len(text), 1)]
            return Bad(f"{name}: answer '{text}' was expected at character {start} of the context; there is '{there}'")
    answers = {key: [answer[key] for answer in asked["answers"]] for key in ("text", "answer_start")}
    row = {"id": asked["id"], "title": title, "context": context, "question": asked["question"]}
    return row | {"answers": answers}


def _lacks(thing: Any, what: str, **kinds: type) -> str | None:
    """Say which key `thing` lacks or has of another type; None where it is as expected."""
    if not isinstance(thing, dict):
        return f"{what}: an object was expected, not a {type(thing).__name__}"
    for key, kind in kinds.items():
        if not isinstance(thing.get(key), kind) or isinstance(thing[key], bool):
            words = {str: "a text", int: "a whole number", list: "a list"}[kind]
            given = f"{type(thing[key]).__name__} {thing[key]!r}"[:60] if key in thing else "nothing"
            return f"{what}: {words} was expected as '{key}', not {given}"
    return None


def _conll(source: Source) -> Found:
    """Read columns: a token a line, sentences ended by a line without any.

    In CoNLL-U (.conllu) the token is the second column and the tag, unless chosen, the fourth: the part of speech.
    """
    universal = Path(source.name).suffix.lower() == ".conllu"
    tab, width = _layout(source)
    token = 1 if universal else 0
    chosen = (3 if universal else -1) if source.tag_column is None else source.tag_column
    tag = chosen + width if chosen < 0 else chosen
    if width > 1 and (tag == token or not 0 <= tag < width):
        raise DataError(
            f"{source.name}: tag_column={chosen}, but there are {width} columns, numbered from 0, "
            f"with the token in column {token}"
        )
    for block in _blocks(source.lines(), tab, width):
        lines = [cells for _, cells in block if not (universal and re.search("[-.]", cells[0]))]
        faults = ((n, fault) for n, cells in block if (fault := _fault(cells, tab, width, token, tag)))
        if first := next(faults, None):
            yield first[0], Bad(first[1])
        elif lines:
            columns = {i: [cells[i] for cells in lines] for i in range(width)}
            named = {"tokens": columns.pop(token), "tags": columns.pop(tag)}
            yield block[0][0], named | {f"column_{i}": cells for i, cells in columns.items()}


def _layout(source: Source) -> tuple[bool, int]:
    """Return whether tabs separate the columns, else runs of spaces do, and how many columns there are."""
    width = 0
    with open(source.name, encoding=source.encoding, errors="surrogateescape", newline="") as lines:
        for line in lines:
            if not line.strip() or line.startswith(("# ", "-DOCSTART-")):
                continue
            if "\t" in line:
                return True, line.count("\t") + 1
            width = width if width > 1 else len(_cells(line, tab=False))
    return False, width


def _cells(line: str, tab: bool) -> list[str]:
    if tab:
        return [cell.strip(" \r\n") for cell in line.split("\t")]
    return [cell for cell in line.strip("\r\n").split(" ") if cell]


def _blocks(lines: Iterable[str], tab: bool, width: int) -> Iterator[list[tuple[int, list[str]]]]:
    """Yield sentences as numbered lines of cells, without what is no token: blank lines, -DOCSTART-, comments.

    A line of empty cells, a lone tab say, is blank. '#' may be a token; a comment comes before a sentence's first
    token, and begins with '# '.
    """
    block: list[tuple[int, list[str]]] = []
    for number, line in enumerate(lines, start=1):
        cells = _cells(line, tab)
        if not any(cell.strip() for cell in cells) or cells[0] == "-DOCSTART-":
            if block:
                yield block
            block = []
        elif block or not _is_comment(line, len(cells) == width):
            block.append((number, cells))
    if block:
        yield block


def _is_comment(line: str, could_be_token: bool) -> bool:
    return line.startswith("# ") and not (could_be_token and re.match(r"# +\S+ = ", line) is None)


def _fault(cells: list[str], tab: bool, width: int, token: int, tag: int) -> str | None:
    by = "tabs" if tab else "spaces"
    if width < 2:
        return f"{len(cells)} column, and at least 2 were expected: a token and a tag, separated by a tab or spaces"
    if len(cells) != width:
        return f"{len(cells)} column{'s' * (len(cells) != 1)}, and {width} were expected, separated by {by}"
    if any(map(_undecoded, cells)):
        return UNDECODED
    return "empty token" if not cells[token].strip() else "empty tag" if not cells[tag].strip() else None


def _parquet(source: Source) -> Found:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    def batches(file: Any) -> Iterator[Any]:
        done = 0
        for batch in file.iter_batches(batch_size=1000):
            yield batch
            done += len(batch)
            source.reached = source.size * done // max(file.metadata.num_rows, 1)

    try:
        with pq.ParquetFile(source.name) as file:
            yield from table_rows(source, _features(source, file.schema_arrow), batches(file))
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a note of datasets that it can't read
        raise DataError(f"{source.name}: a Parquet file was expected: {str(error).splitlines()[0]}") from error


def _arrow(source: Source) -> Found:
    """Read an Arrow file, or a stream as datasets writes them; Feather V2 is the same."""
    import pyarrow as pa

    def of_file(reader: Any) -> Iterator[Any]:
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)
            source.reached = source.size * (i + 1) // reader.num_record_batches

    def of_stream(reader: Any, file: Any) -> Iterator[Any]:
        for batch in reader:
            yield batch
            source.reached = file.tell()

    try:
        with pa.memory_map(source.name) as file:
            try:
                reader = pa.ipc.open_file(file)
                batches = of_file(reader)
            except pa.ArrowInvalid:
                file.seek(0)
                reader = pa.ipc.open_stream(file)
                batches = of_stream(reader, file)
            few = (batch.slice(start, 1000) for batch in batches for start in range(0, len(batch), 1000))
            yield from table_rows(source, _features(source, reader.schema), few)
    except (pa.ArrowException, OSError, ValueError) as error:  # an empty file can't be mapped: ValueError
        raise DataError(f"{source.name}: an Arrow file was expected: {str(error).splitlines()[0]}") from error


def _features(source: Source, schema: Any) -> Mapping[str, Any]:
    """Return what datasets noted of the columns, the names of classes above all; nothing where it wrote no note."""
    if len(set(schema.names)) < len(schema.names):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise DataError(f"{source.name}: there are two columns '{twice}'")
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    from datasets import Features

    features: Mapping[str, Any] = Features.from_arrow_schema(schema)
    return features


def table_rows(source: Source, features: Mapping[str, Any], batches: Iterable[Any]) -> Found:
    """Yield the rows of Arrow batches, numbered from 1, with the names of classes for their numbers."""
    source.unit = "row"
    namers = {name: namer for name, feature in features.items() if (namer := _namer(feature))}
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            try:
                yield number, row | {name: namer(row[name]) for name, namer in namers.items()}
            except IndexError as error:
                yield number, Bad(str(error))


def _namer(feature: Any) -> Callable[[Any], Any] | None:
    """Return what puts names for the class numbers in a column's values; None where there are none."""
    from datasets import ClassLabel, LargeList, List

    if isinstance(feature, ClassLabel):
        return lambda value: _class_name(feature.names, value)
    if isinstance(feature, List | LargeList) and (inner := _namer(feature.feature)):
        return lambda values: None if values is None else [inner(value) for value in values]
    if isinstance(feature, dict) and (fields := {k: n for k, f in feature.items() if (n := _namer(f))}):
        return lambda value: None if value is None else value | {k: namer(value[k]) for k, namer in fields.items()}
    return None


def _class_name(names: list[str], value: int | None) -> str | None:
    if value is None or value == -1:  # how datasets writes that the label isn't known
        return None
    if not 0 <= value < len(names):
        raise IndexError(f"class {value}, but the classes are 0 to {len(names) - 1}: {', '.join(names[:6])}")
    return names[value]


READERS: dict[str, Callable[[Source], Found]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".tsv": _tsv,
    ".json": _json,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".feather": _arrow,
    ".conll": _conll,
    ".conllu": _conll,
    ".iob": _conll,
    ".bio": _conll,
    ".txt": _txt,
}
"""How each kind of file is read, by the end of its name."""
