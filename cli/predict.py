"""adapt predict: answers of one adapter or several, for texts on the command line, in a file, on the standard input."""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import click

from adapterkit.answering import STREAMED, Answered, Answering, Given, from_file, from_stream, from_texts
from adapterkit.cli.common import TerminalWatch, adapter_names, common_options, print_table, registry_option
from adapterkit.errors import DataError, OptionError
from adapterkit.registry import Registry
from adapterkit.watch import Watch

Records = Iterator[list[dict[str, Any]]]
"""What is written, a chunk at a time."""
ENDINGS = {".jsonl": "jsonl", ".csv": "csv", ".tsv": "tsv"}
"""How a file is written, by the end of its name."""


class Words(click.Command):
    """Keep what stands behind -- apart: those words are texts, whatever they are."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        ctx.meta["texts"] = args[end + 1 :]
        return super().parse_args(ctx, args[:end])


class Bytes(click.ParamType[int]):
    """A number of bytes: 256MB, 1.5GB, 1000000."""

    name = "bytes"
    units = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Z]*)", str(value).upper())
        if not found or found[2] not in self.units or float(found[1]) == 0:
            raise click.BadParameter(f"'{value}' is no number of bytes, such as 256MB, 1GB or 1000000", ctx, param)
        return int(float(found[1]) * self.units[found[2]])


@click.command(cls=Words, short_help="Answer texts with an adapter, or with several.")
@click.argument("words", nargs=-1, metavar="[NAME]... [TEXT]...", shell_complete=adapter_names)
@click.option("--file", "--input-file", "-f", "path", metavar="FILE", help="Rows to answer; - for the standard input.")
@click.option("--input-format", type=click.Choice(STREAMED), help="Of the standard input; default: jsonl or txt.")
@click.option(
    "--text-column-name", "--text-column", "text_columns", metavar="A,B", help="Where the rows have what is read."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write to this .jsonl, .csv or .tsv; it is there when all is done."
)
@click.option("--format", "form", type=click.Choice(["table", *ENDINGS.values()]), help="Of the standard output.")
@click.option("--base", "base_name", metavar="NAME", help="Where the base is now; default: where it was in training.")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True, help="Rows of a pass.")
@click.option("--max-bytes", type=Bytes(), help="Memory for adapters, such as 256MB; default: as much as they take.")
@registry_option()
@common_options
@click.pass_context
def command(
    ctx: click.Context,
    words: tuple[str, ...],
    path: str | None,
    input_format: str | None,
    text_columns: str | None,
    out: Path | None,
    form: str | None,
    base_name: str | None,
    batch_size: int,
    max_bytes: int | None,
    registry: Path | None,
    as_json: bool,
) -> None:
    """Answer texts, or the rows of a file, with the adapter NAME or NAME@VERSION, or with several at once.

    The leading words that are adapters (also A,B) are asked; the words after them, or after --, are texts. The fields
    of a text (a pair; question and context) are separated by tabs. Without texts, rows are read from --file (txt, csv,
    tsv, jsonl, json, parquet, arrow) or from the standard input: a text or a JSON object on each line.

    A row is written with its columns and the answer's fields, in the order of the input; a field whose name is taken
    is called predicted_NAME. Of several adapters, each has a column: its whole answer in JSON, the label, value or text
    alone elsewhere. Rows that have a column "adapter" need no NAME: each is put to its own, and where it isn't JSON,
    the columns are "answer" and "score".

    Texts of the command line are answered in a table; rows are written as jsonl, or as a table on a terminal.
    """
    watch = TerminalWatch()
    where = Registry.at(registry)
    form = _asked_form(out, form, as_json)
    names, texts = _names_and_texts(words, ctx.meta["texts"], where, watch)
    given = _given(texts, path, input_format)
    form = form or ("table" if not given.name or sys.stdout.isatty() else "jsonl")
    columns = tuple(text_columns.split(",")) if text_columns else ()
    with nullcontext() if out is None else _new(out) as file:
        answering = Answering(given, where, names, text_columns=columns)
        chunks = answering.chunks(base=base_name, batch_size=batch_size, max_bytes=max_bytes)
        to: BinaryIO = file or sys.stdout.buffer  # found now: a bar takes the place of sys.stdout
        with _bar(watch, answering.total, file) as bar:
            records = _records(answering, chunks, form, bar)
            if form == "table":
                _print(records)
                return
            for text in WRITERS[form](records):
                to.write(text.encode("utf-8", "backslashreplace"))  # half of a surrogate pair, as JSON writes it
                to.flush()


def _asked_form(out: Path | None, form: str | None, as_json: bool) -> str | None:
    """Return the format that is asked for, by the name of a file or by a flag."""
    asked = [f"--out {out}"] * (out is not None) + [f"--format {form}"] * (form is not None) + ["--json"] * as_json
    if len(asked) > 1:
        raise OptionError(f"give {' or '.join(asked)}, not both")
    if out is not None and out.suffix.lower() not in ENDINGS:
        raise OptionError(f"--out {out}: a name that ends in {', '.join(ENDINGS)} was expected")
    return ENDINGS[out.suffix.lower()] if out is not None else "json" if as_json else form


# ---- what is asked


def _names_and_texts(
    words: tuple[str, ...], after: list[str], registry: Registry, watch: Watch
) -> tuple[list[str], tuple[str, ...]]:
    """Return the adapters that the first words are, and the texts that the others are."""
    known, rest = registry.adapters(), list(words)
    names: list[str] = []
    while rest and (not names or _are_adapters(rest[0], known)):
        names += [name for name in rest.pop(0).split(",") if name] or [""]
    for name in names:
        registry.resolve(name)
    near = difflib.get_close_matches(rest[0], known, n=1, cutoff=0.8) if rest else []
    if near:
        watch.note("", f"'{rest[0]}' is taken for a text; there is an adapter '{near[0]}'")
    return names, (*rest, *after)


def _are_adapters(word: str, known: dict[str, Any]) -> bool:
    """Tell names from a text: one of them at least is an adapter's."""
    names = word.split(",")
    like = all(re.fullmatch(r"[A-Za-z0-9][\w-]*(@[0-9a-f]+)?", name, re.ASCII) for name in names)
    return like and any(name.partition("@")[0] in known for name in names)


def _given(texts: tuple[str, ...], path: str | None, kind: str | None) -> Given:
    if texts and path:
        raise DataError(f"give texts or --file {path}, not both")
    if kind and (texts or path not in (None, "-")):
        raise OptionError(f"--input-format {kind} is for the standard input, and {path or 'texts'} was given")
    if texts:
        return from_texts(texts)
    if path not in (None, "-"):
        return from_file(path)
    if path is None and sys.stdin.isatty():
        raise DataError(
            'no text given; adapt predict NAME "a text", or --file FILE, or a text a line on the standard input'
        )
    return from_stream("standard input", sys.stdin.buffer, kind)


# ---- what is written


@dataclass(frozen=True)
class _Layout:
    """How rows and answers become records."""

    given: Given
    columns: Collection[str]
    several: bool
    routed: bool
    flat: bool  # every record has the same fields, one value each

    def record(self, one: Answered, *, answers_first: bool) -> dict[str, Any]:
        """Return a row and its answers."""
        said: dict[str, Any] = one.said
        if self.several:
            said = {name: _headline(answer) for name, answer in said.items()} if self.flat else said
        else:
            (said,) = one.said.values()
            if self.routed and self.flat:
                said = {"answer": _headline(said), "score": said.get("score")}
        fields: dict[str, Any] = {}
        for name, value in said.items():
            while name in self.columns or name in fields:
                name = f"predicted_{name}"
            fields[name] = value
        for name in one.row.keys() - set(self.columns):
            if self.flat or name in fields:
                raise DataError(
                    f"{self.given.at(one.line)}: column '{name}' is not in the first rows, which set the columns"
                )
        row = {name: one.row.get(name) for name in self.columns} if self.flat else one.row
        return {**fields, **row} if answers_first else {**row, **fields}


def _headline(answer: dict[str, Any]) -> Any:
    """Return what an answer says first: the label, the value, the text, the entities."""
    return next(iter(answer.values()))


def _records(answering: Answering, chunks: Iterator[list[Answered]], form: str, bar: Watch) -> Records:
    layout = _Layout(
        given=answering.given,
        columns=answering.columns,
        several=len(answering.names) > 1,
        routed=not answering.names,
        flat=form in ("table", "csv", "tsv"),
    )
    for chunk in chunks:
        yield [layout.record(one, answers_first=form == "table") for one in chunk]
        bar.advance(len(chunk))


def _print(records: Records) -> None:
    """Print a table of each chunk."""
    for chunk in records:
        print_table(list(chunk[0]), [[_cell(value) for value in record.values()] for record in chunk])


def _cell(value: Any) -> str:
    """Return a value for reading, in one line."""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(v)}" for key, v in value.items()) or "-"
    if isinstance(value, list):
        return "; ".join(" ".join(map(_cell, v.values())) if isinstance(v, dict) else _cell(v) for v in value) or "-"
    return "-" if value is None or value == "" else str(value).replace("\t", " | ")


def _json(value: Any, **how: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str, **how)


def _lines(records: Records) -> Iterator[str]:
    for chunk in records:
        yield "".join(f"{_json(record)}\n" for record in chunk)


def _list(records: Records) -> Iterator[str]:
    """Write one JSON list, indented as a whole would be."""
    before = "["
    for chunk in records:
        yield before + ",".join("\n  " + _json(record, indent=2).replace("\n", "\n  ") for record in chunk)
        before = ","
    yield "\n]\n"


def _separated(records: Records, by: str) -> Iterator[str]:
    header = True
    for chunk in records:
        rows = ([chunk[0]] if header else []) + [record.values() for record in chunk]
        yield "".join(by.join(map(_quoted, row)) + "\n" for row in rows)
        header = False


def _quoted(value: Any) -> str:
    """Return a cell, in quotes where it has to be; lists and objects as JSON."""
    json_value = isinstance(value, list | dict | bool | int | float)
    text = _json(value) if json_value else "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if re.search('[",\t\r\n]', text) else text


WRITERS: dict[str, Callable[[Records], Iterator[str]]] = {
    "jsonl": _lines,
    "json": _list,
    "csv": lambda records: _separated(records, ","),
    "tsv": lambda records: _separated(records, "\t"),
}


@contextmanager
def _new(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of `path` once it is whole; where anything goes wrong, it is gone."""
    if path.is_dir():
        raise OptionError(f"--out {path} is a folder, and a file was expected")
    try:
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise DataError(f"can't write '{path}': {error.strerror}") from error
    try:
        os.fchmod(handle, 0o644)
        with open(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(handle)
        os.replace(beside, path)
    except BaseException as error:
        os.unlink(beside)
        if isinstance(error, OSError):
            raise DataError(f"can't write '{path}': {error.strerror or error}") from error
        raise


def _bar(watch: Watch, total: int | None, file: BinaryIO | None) -> AbstractContextManager[Watch]:
    """Return a bar over rows, where they can be counted and don't themselves appear on the terminal."""
    if total is None or (file is None and sys.stdout.isatty()):
        return nullcontext(Watch())
    return watch.bar("answering", total)
