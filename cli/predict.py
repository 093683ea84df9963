"""adapt predict: answers from an adapter, for texts on the command line, in a file, or on the standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from adapterkit.cli.common import (
    TerminalWatch,
    adapter_argument,
    common_options,
    print_json,
    print_table,
    registry_option,
)
from adapterkit.errors import DataError
from adapterkit.registry import Registry


@click.command(short_help="Answer texts with an adapter.")
@adapter_argument()
@click.argument("texts", nargs=-1)
@click.option("--file", "path", type=click.Path(path_type=Path), help="A file with a text on each line; - for stdin.")
@click.option("--base", "base_name", metavar="NAME", help="Where the base is now; default: where it was in training.")
@registry_option()
@common_options
def command(
    name: str, texts: tuple[str, ...], path: Path | None, base_name: str | None, registry: Path | None, as_json: bool
) -> None:
    """Answer TEXTS, or each line of a file or of the standard input, with the adapter NAME or NAME@VERSION.

    The two texts of a pair are separated by a tab.
    """
    lines = _texts(texts, path)
    where = Registry.at(registry)
    adapter = where.load(name)
    from adapterkit.base import Base
    from adapterkit.evaluation import predict

    stored = adapter.manifest["base"]
    base = Base.load(where.locate(stored["name"]) if base_name is None else base_name, revision=stored["revision"])
    answers = predict(base, adapter, lines, watch=TerminalWatch())
    if as_json:
        print_json([{"text": text, **answer} for text, answer in zip(lines, answers, strict=True)])
        return
    rows = [[*map(_cell, a.values()), _cell(t)] for a, t in zip(answers, lines, strict=True)]
    print_table([*answers[0], "text"], rows)


def _cell(value: Any) -> str:
    """Return an answer's value for reading, in one line."""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(v)}" for key, v in value.items()) or "-"
    if isinstance(value, list):
        return "; ".join(" ".join(map(_cell, v.values())) if isinstance(v, dict) else _cell(v) for v in value) or "-"
    return "-" if value is None or value == "" else str(value).replace("\t", " | ")


def _texts(texts: tuple[str, ...], path: Path | None) -> list[str]:
    if texts and path:
        raise DataError(f"give texts or --file {path}, not both")
    if not texts and path is None and sys.stdin.isatty():
        raise DataError(
            'no text given; adapt predict NAME "a text", or --file FILE, or a text a line on the standard input'
        )
    if path is not None and str(path) != "-":
        try:
            texts = tuple(path.read_text(encoding="utf-8").splitlines())
        except OSError as error:
            raise DataError(f"can't read '{path}': {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"'{path}' is not UTF-8: {error}") from error
    elif not texts:
        texts = tuple(line.rstrip("\r\n") for line in sys.stdin)
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise DataError(f"text {number} of {len(texts)} is empty")
    if not texts:
        raise DataError("no text given: the input is empty")
    return list(texts)
