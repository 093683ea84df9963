"""adapt predict: answers of one adapter or several, for texts on the command line, in a file, on the standard input."""

from __future__ import annotations

import difflib
import gc
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import click

from adapterkit.cli.answered_files import answer_files
from adapterkit.cli.common import (
    TerminalWatch,
    adapter_names,
    base_options,
    cluster_options,
    common_options,
    counted,
    device_option,
    echo,
    is_onnx,
    reading_options,
    registry_option,
    runtime_options,
)
from adapterkit.cli.writing import BINARY, WRITERS, binary_writer, new_file, print_tables, records
from adapterkit.cluster import Placement, open_executor
from adapterkit.data.input_rows import STREAMED, InputRows, from_texts
from adapterkit.errors import DataError, OptionError
from adapterkit.settings import DataOptions
from adapterkit.store.registry import Registry
from adapterkit.watch import Watch
from adapterkit.workflows.answer import Answering, answered_chunks
from adapterkit.workflows.pool_worker import PoolOptions

ENDINGS = {".jsonl": "jsonl", ".csv": "csv", ".tsv": "tsv", ".npy": "npy", ".parquet": "parquet"}
"""How a file is written, by the end of its name."""


class Words(click.Command):
    """Treat every word after -- as a text."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        ctx.meta["texts"] = args[end + 1 :]
        return super().parse_args(ctx, args[:end])


class Bytes(click.ParamType[int]):
    """A number of bytes: 256MB, 1.5GB, 1000000."""

    name = "bytes"
    units = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Z]*)", str(value).upper())
        if not match or match[2] not in self.units or float(match[1]) == 0:
            raise click.BadParameter(
                f"expected a number of bytes such as 256MB, 1GB or 1000000, got '{value}'", ctx, param
            )
        return int(float(match[1]) * self.units[match[2]])


@click.command(cls=Words, short_help="Predict with one adapter or several.")
@click.argument("words", nargs=-1, metavar="[NAME]... [TEXT]...", shell_complete=adapter_names)
@click.option(
    "--file", "--input-file", "-f", "path", metavar="FILE", help="Rows to predict for; - for the standard input."
)
@click.option(
    "--input-format", type=click.Choice(STREAMED), help="Format of the standard input. [default: jsonl or txt]"
)
@click.option("--text-column-name", "--text-column", "text_columns", metavar="A,B", help="Columns to read.")
@click.option(
    "--skip-bad-rows", is_flag=True, help="Write the reason in the place of an answer where a row can't be read."
)
@reading_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write to this .jsonl, .csv, .tsv, .parquet or .npy (vectors) file, complete or not at all; of several files, "
    "to a folder.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", *(form for form in ENDINGS.values() if form not in BINARY)]),
    help="Format of the standard output.",
)
@base_options()
@device_option
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True, help="Rows per forward pass.")
@runtime_options
@cluster_options
@click.option("--max-bytes", type=Bytes(), help="Memory for adapters, such as 256MB. [default: no limit]")
@registry_option()
@common_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    words: tuple[str, ...],
    path: str | None,
    input_format: str | None,
    text_columns: str | None,
    out: Path | None,
    form: str | None,
    base_name: str | None,
    allow_base_mismatch: bool,
    device: str | None,
    batch_size: int,
    max_bytes: int | None,
    registry: Path | None,
    as_json: bool,
    skip_bad_rows: bool,
    runtime: str | None,
    exported: Path | None,
    placement: Placement,
    **reading: Any,
) -> None:
    """Predict for texts or for the rows of a file, with the adapter NAME, NAME@VERSION or NAME@TAG, or with several.

    Leading words that name adapters (also A,B) choose them. The next word is a file of rows (txt, csv, tsv, jsonl,
    json, parquet, arrow) if such a file exists, - for the standard input, else a text; words after -- are always texts.
    The parts of a text (a pair; question and context) are separated by tabs. Without texts, rows come from --file or
    from the standard input: a text or a JSON object per line.

    Each row is written with its columns and the fields of the prediction, in input order; a field whose name is a
    column's is called predicted_NAME. With several adapters, each has a column: the whole prediction in JSON, else its
    label, value or text. Rows with a column "adapter" need no NAME: each is sent to its own adapter.

    Several files are answered into the folder --out, a file for each; those that are there already are left out.

    Texts of the command line give a table; rows are written as jsonl, or as a table on a terminal.

    \b
    adapt predict reviews-lora "I'd stay here again" "Cold soup."
    adapt predict reviews-lora more.csv --out predictions.csv
    adapt predict reviews-lora parts/*.csv --out predictions --on ray
    """
    watch = TerminalWatch()
    opened, kind = _adapters_and_kind(Registry.at(registry), runtime, exported)
    names, texts = _names_and_texts(words, opened)
    pool = PoolOptions(
        base=base_name,
        batch_size=batch_size,
        max_bytes=max_bytes,
        device=device,
        allow_base_mismatch=allow_base_mismatch,
    )
    data = DataOptions(**reading, skip_bad_rows=skip_bad_rows)
    columns = tuple(text_columns.split(",")) if text_columns else ()
    if len(files := _several_files(texts, path)) > 1:
        if as_json or form == "table" or out is None:
            raise OptionError(f"{len(files)} files are answered into a folder, as jsonl, csv or tsv: give --out FOLDER")
        from adapterkit.data.readers import ReadOptions
        from adapterkit.data.streams import from_file

        def read(file: Path) -> Answering:
            rows = from_file(str(file), ReadOptions.of(data), skip_bad=skip_bad_rows)
            return kind(rows, opened, names, text_columns=columns)

        gc.enable()
        references = ["@".join(opened.resolve(name)) for name in names]
        described = {"adapters": references, "columns": columns, "base": base_name, "reading": reading}
        with open_executor(placement) as on:
            answer_files(files, out, form or "jsonl", read, pool, described, executor=on, watch=watch)
        return
    form = _output_format(out, form, as_json)
    path, texts = _file_among(texts, path)
    if out is not None and path not in (None, "-") and out.exists() and out.samefile(str(path)):
        raise OptionError(f"--out {out} is the file of rows, which it would replace")
    rows = _input_rows((*texts, *ctx.meta["texts"]), path, input_format, data)
    if rows.name:  # a file or a stream, of any length
        gc.enable()
    form = form or ("table" if not rows.name or sys.stdout.isatty() else "jsonl")
    with nullcontext() if out is None else new_file(out) as file, open_executor(placement) as on:
        answering = kind(rows, opened, names, text_columns=columns)
        for note in (*rows.notes, *answering.notes):
            watch.note("remark", note)
        chunks = (chunk for _, chunk in answered_chunks([answering], pool, executor=on, watch=watch))
        to: BinaryIO = file or sys.stdout.buffer  # read here: a bar replaces sys.stdout
        with _bar(watch, answering.total, file) as bar:
            written = records(answering, chunks, form, bar)
            if form == "table":
                print_tables(written)
            elif form in BINARY:
                binary_writer(form)(written, to)
            else:
                for text in WRITERS[form](written):
                    to.write(text.encode("utf-8", "backslashreplace"))  # half of a surrogate pair, as JSON writes it
                    to.flush()
    _report(answering, out)


def _adapters_and_kind(
    registry: Registry, runtime: str | None, exported: Path | None
) -> tuple[Registry, type[Answering]]:
    """Return where adapters are looked up, and the kind of answering, by the flags --runtime and --export."""
    if not is_onnx(runtime, exported):
        return registry, Answering
    from adapterkit.workflows.onnx_answer import ExportedAdapters, OnnxAnswering

    return ExportedAdapters.beside(registry, exported), OnnxAnswering  # type: ignore[return-value]  # a part of it


def _report(answering: Answering, out: Path | None) -> None:
    """Print how many rows were written to a file, and how many have no answer."""
    if out is not None:
        echo(f"written    {out}: {counted(answering.count, 'row')}", err=True)
    if unanswered := answering.unanswered:
        line = min(unanswered)
        first = f"{answering.source.at(line)}: {unanswered[line]}"
        verb = "has" if len(unanswered) == 1 else "have"
        echo(f"warning    {counted(len(unanswered), 'row')} {verb} no answer, first {first}", err=True)


def _output_format(out: Path | None, form: str | None, as_json: bool) -> str | None:
    """Return the output format that --out, --format or --json choose, or None."""
    flags = [f"--out {out}"] * (out is not None) + [f"--format {form}"] * (form is not None) + ["--json"] * as_json
    if len(flags) > 1:
        raise OptionError(f"give {' or '.join(flags)}, not both")
    if out is not None and out.suffix.lower() not in ENDINGS:
        raise OptionError(f"--out {out}: a name that ends in {', '.join(ENDINGS)} was expected")
    return ENDINGS[out.suffix.lower()] if out is not None else "json" if as_json else form


# ---- adapters, texts and files


def _names_and_texts(words: tuple[str, ...], registry: Registry) -> tuple[list[str], list[str]]:
    """Split words into the adapters that come first and the texts after them."""
    entries, rest = registry.adapters(), list(words)
    names: list[str] = []
    while rest and (not names or _are_adapters(rest[0], entries)):
        names += [name for name in rest.pop(0).split(",") if name] or [""]
    for name in names:
        registry.resolve(name)
    near = difflib.get_close_matches(rest[0], entries, n=1, cutoff=0.8) if rest else []
    if near:
        raise OptionError(f"no adapter named '{rest[0]}'; did you mean '{near[0]}'? a text like that goes after --")
    return names, rest


def _has_suffix_of_data(word: str) -> bool:
    """Return whether a word ends as a data file's name does; the readers are imported only where it may."""
    suffix = Path(word).suffix
    if not suffix or " " in suffix:
        return False
    from adapterkit.data.readers import is_data_file

    return is_data_file(word)


def _is_data_file(word: str) -> bool:
    return _has_suffix_of_data(word) and Path(word).is_file()


def _several_files(words: list[str], path: str | None) -> list[Path]:
    """Return the files that words name, or none where any of them is no file."""
    if path is not None or not all(_is_data_file(word) for word in words):
        return []
    return [Path(word) for word in words]


def _file_among(words: list[str], path: str | None) -> tuple[str | None, list[str]]:
    """Return the file of rows that a word names, and the words that are texts; `path` is the value of --file.

    Raises `OptionError` for a file among other words, or together with --file.
    """
    files = [word for word in words if word == "-" or _is_data_file(word)]
    if not files:
        for word in words:
            if _has_suffix_of_data(word) and not word[:1].isspace() and len(word.split()) == 1:
                echo(f"warning    no file named '{word}'; it is read as a text", err=True)
        return path, words
    if len(words) > 1 or path:
        others = [f"--file {path}"] if path else [f"'{word}'" for word in words if word != files[0]]
        raise OptionError(f"'{files[0]}' is a file, so {others[0]} is one input too many; texts go after --")
    if files[0] != "-":
        echo(f"file       reading rows from {files[0]}", err=True)
    return files[0], []


def _are_adapters(word: str, entries: dict[str, Any]) -> bool:
    """Return whether a word is a list of names, at least one of them a registered adapter's."""
    names = word.split(",")
    like = all(re.fullmatch(r"[A-Za-z0-9][\w-]*(@[0-9a-f]+)?", name, re.ASCII) for name in names)
    return like and any(name.partition("@")[0] in entries for name in names)


def _input_rows(texts: tuple[str, ...], path: str | None, kind: str | None, options: DataOptions) -> InputRows:
    if texts and path:
        raise DataError(f"'{texts[0]}' is not a registered adapter, and a text can't be combined with --file {path}")
    if kind and (texts or path not in (None, "-")):
        raise OptionError(f"--input-format {kind} is for the standard input, got {path or 'texts'}")
    if texts:
        return from_texts(texts)
    from adapterkit.data.readers import ReadOptions
    from adapterkit.data.streams import from_file, from_stream

    if path not in (None, "-"):
        return from_file(path, ReadOptions.of(options), skip_bad=options.skip_bad_rows)
    if path is None and sys.stdin.isatty():
        raise DataError(
            'no text; use adapt predict NAME "a text", or --file FILE, or a text a line on the standard input'
        )
    skip_bad = options.skip_bad_rows
    return from_stream("standard input", sys.stdin.buffer, kind, ReadOptions.of(options), skip_bad=skip_bad)


def _bar(watch: Watch, total: int | None, file: BinaryIO | None) -> AbstractContextManager[Watch]:
    """Return a bar over rows, where they can be counted and don't themselves appear on the terminal."""
    if total is None or (file is None and sys.stdout.isatty()):
        return nullcontext(Watch())
    return watch.bar("answering", total)
