"""Shared by the commands: flags made from options, common flags, and printing of JSON, tables and lines."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from adapterkit.display import best_metric, metric_table
from adapterkit.display import size as size
from adapterkit.errors import AdapterkitError, OptionError, printable
from adapterkit.options import Option, options
from adapterkit.settings import DataOptions
from adapterkit.store.registry import Registry
from adapterkit.workflows.progress import TerminalWatch as TerminalWatch

if TYPE_CHECKING:
    from rich.console import Console

    from adapterkit.store.maintenance import Fault

_CONTROL = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that `json` doesn't escape and that a terminal obeys; see `printable`."""


class OptionType(click.ParamType[Any]):
    """Convert a flag's text as the library converts the option's value."""

    def __init__(self, option: Option) -> None:
        self.option = option
        self.name = "|".join(option.type) if isinstance(option.type, tuple) else _METAVARS[option.type]

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return self.name if isinstance(self.option.type, tuple) else None  # choices as they are written

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.option.parse(value)
        except AdapterkitError as error:
            raise click.BadParameter(str(error), ctx, param) from error

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if isinstance(self.option.type, tuple):
            return [CompletionItem(choice) for choice in self.option.type if choice.startswith(incomplete)]
        return [CompletionItem(incomplete, type="file")] if self.option.type is str else []


_METAVARS = {int: "integer", float: "number", bool: "boolean", str: "text", tuple: "a,b"}


class Flag(click.Option):
    """An option of a run; the help names it by its short spelling and its own, all spellings are taken."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        if record is None or self.is_flag or len(self.opts) < 2:
            return record
        main, shortest = self.opts[0], self.opts[1]
        names = dict.fromkeys([shortest, main] if len(shortest) < len(main) else [main])
        return f"{', '.join(names)} {self.make_metavar(ctx)}", record[1]


def flag(option: Option) -> click.Option:
    """Make a click option; its value is None unless the user gives it."""
    value = ",".join(option.default) if isinstance(option.default, tuple) else option.default
    if value is dataclasses.MISSING:
        default = "[required]"
    else:
        default = "" if value is None or value is False or value == "" else f"[default: {value}]"
    text = " ".join(part for part in (_sentence(option.help), default) if part)
    if option.type is bool:
        negative = option.flag.replace("--", "--no-", 1)
        return Flag([option.name, f"{option.flag}/{negative}"], default=None, help=text)
    return Flag([option.name, option.flag, *option.aliases], type=OptionType(option), default=None, help=text)


def _sentence(text: str) -> str:
    """Return a help text with a capital at its start, unless that is a value or a name."""
    word = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if word.isalpha() and word.islower() else text


def adapter_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a registered adapter, and after an @ its tags and versions."""
    try:
        index = Registry.at(ctx.params.get("registry")).index()
        name, at, _ = incomplete.partition("@")
        entry = index[name] if at and name in index else {}
    except AdapterkitError:
        return []
    names = [f"{name}@{of}" for of in (*entry.get("tags", {}), *entry["versions"])] if entry else index
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def adapter_argument() -> Callable[[Any], Any]:
    """Return the argument NAME, NAME@VERSION or NAME@TAG."""
    return click.argument("name", shell_complete=adapter_names)


class RegistryPath(click.Path):
    """The path of a registry.json, or a URL, which stays a text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if "://" in str(value) else super().convert(value, param, ctx)


def registry_option() -> Callable[[Any], Any]:
    """Return the flag --registry."""
    return click.option(
        "--registry",
        type=RegistryPath(dir_okay=False, path_type=Path),
        envvar="ADAPT_REGISTRY",
        help="The registry.json to use, or a URL: s3://BUCKET/PREFIX. [default: $ADAPT_REGISTRY, or this folder's]",
    )


def base_options() -> Callable[[Any], Any]:
    """Return the flags --base and --allow-base-mismatch."""

    def add(command: Any) -> Any:
        allow = click.option(
            "--allow-base-mismatch",
            is_flag=True,
            help="Allow another base than the adapter was trained on, if the shapes match.",
        )
        text = "Where the base is now. [default: where it was at training time]"
        return click.option("--base", "base_name", metavar="NAME", help=text)(allow(command))

    return add


def device_option(command: Any) -> Any:
    """Add --device."""
    return click.option("--device", metavar="NAME", help="Where to run: cpu, cuda, cuda:1, mps. [default: cpu]")(
        command
    )


def runtime_options(command: Any) -> Any:
    """Add --runtime and --export, as the keywords `runtime` and `exported`."""
    for option in (
        click.option(
            "--export",
            "exported",
            metavar="DIR",
            type=click.Path(file_okay=False, path_type=Path),
            help="The export for --runtime onnx. [default: the folder onnx beside registry.json]",
        ),
        click.option(
            "--runtime",
            type=click.Choice(["torch", "onnx"]),
            help="What computes: onnx answers from an export, without torch. [default: torch, where it is installed]",
        ),
    ):
        command = option(command)
    return command


def is_onnx(runtime: str | None, exported: Path | None) -> bool:
    """Return whether an export is to answer. Raises `OptionError` where --runtime and --export don't agree."""
    chosen = runtime or ("torch" if not exported and importlib.util.find_spec("torch") else "onnx")
    if exported and chosen == "torch":
        raise OptionError(f"--export {exported} is for --runtime onnx, got --runtime torch")
    return chosen == "onnx"


def cluster_options(command: Any) -> Any:
    """Add --on and the flags of a cluster, as the keyword `placement`."""
    for option in (
        click.option("--gpus-per-worker", type=float, help="GPUs of each. [default: 1 where there are GPUs]"),
        click.option("--cpus-per-worker", type=float, help="CPUs of each. [default: a node's, or 1 beside a GPU]"),
        click.option(
            "--workers",
            "--jobs",
            "workers",
            type=click.IntRange(min=1),
            help="Processes. [default: on Ray one per GPU, else per node; here 1, for compare and tune as many as fit]",
        ),
        click.option(
            "--ray-address", metavar="HOST:PORT", help="The Ray cluster. [default: $RAY_ADDRESS, else a local Ray]"
        ),
        click.option(
            "--on", "on", type=click.Choice(["local", "ray"]), default="local", help="Compute here, or on Ray's nodes."
        ),
    ):
        command = option(command)

    @functools.wraps(command)
    def with_placement(*args: Any, **kwargs: Any) -> Any:
        from adapterkit.cluster import Placement

        placement = Placement(**{field.name: kwargs.pop(field.name) for field in dataclasses.fields(Placement)})
        return command(*args, placement=placement, **kwargs)

    return with_placement


def reading_options(command: Any) -> Any:
    """Add the flags that decide how a file of rows is read, as keywords of `DataOptions`."""
    available = options(DataOptions)
    for name in ("tag_column", "word_column", "column_names", "encoding", "separator"):
        option = available[name]
        command = click.option(option.flag, name, type=OptionType(option), help=_sentence(option.help))(command)
    return command


def labelled_rows_options(command: Any) -> Any:
    """Add the flags that name labelled rows: --test-file, --dataset, --split."""
    splits = click.Choice(["train", "validation", "test"])
    for option in (
        click.option("--split", type=splits, help="Rows to use. [default: test]"),
        click.option("--dataset", metavar="NAME", help="demo:NAME, or a folder with train, validation and test files."),
        click.option(
            "--test-file", "--file", "test_file", metavar="FILE", help="Labelled rows. [default: those of the run]"
        ),
    ):
        command = option(command)
    return command


def common_options(command: Any) -> Any:
    """Add --json and --debug."""
    debug = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(debug(command))


def flag_for(word: str, flags: Collection[str]) -> str:
    """Return which of the flags a word without one belongs to, by what it names, and what for; "" for none of them."""
    from adapterkit.discovery import installed

    is_file = os.path.isfile(word)
    strategies = {plugin.name for plugin in installed()} if "--strategy" in flags else ()
    choices = (
        ("--dataset", "for a data set", os.path.isdir(word) or word.startswith("demo:")),
        ("--config", "to read options from it", is_file and word.endswith((".yaml", ".yml"))),
        ("--train-file", "to train on its rows", is_file),
        ("--test-file", "to read a file", is_file),
        ("--file", "to read a file", is_file),
        ("--strategy", "to train with that strategy", word in strategies),
    )
    flag, purpose = next(((flag, why) for flag, why, fits in choices if fits and flag in flags), ("", ""))
    return f"{purpose}, give {flag} {shlex.quote(word)}" if flag else ""


def predict_command(name: str) -> str:
    """Return the command that uses an adapter next, with the registry where this command names one."""
    context = click.get_current_context()
    explicit = context.get_parameter_source("registry") is ParameterSource.COMMANDLINE
    registry = f" --registry {shlex.quote(str(context.params['registry']))}" if explicit else ""
    return f'adapt predict {name} "…"{registry}'


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json_text(value, indent=2))


def json_text(value: Any, **how: Any) -> str:
    """Return a value as JSON with every control character escaped."""
    text = json.dumps(value, ensure_ascii=False, **how)
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def echo(text: str = "", *, err: bool = False) -> None:
    """Print lines with control characters escaped."""
    click.echo("\n".join(map(printable, text.split("\n"))), err=err)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, dispensable: Sequence[str] = ()) -> None:
    """Print a table; on a terminal that is too narrow for it, without the `dispensable` columns, the first one first.

    Rich takes a second for a thousand rows, so longer tables are printed without it, as are those that no terminal
    shows.
    """
    if len(rows) > 500 or not sys.stdout.isatty():
        _print_plain([columns, *rows])
        return
    from rich.table import Table

    console = _console()
    for count in range(len(dispensable) + 1):
        shown = [i for i, column in enumerate(columns) if column not in dispensable[:count]]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for i in shown:
            table.add_column(printable(columns[i]), overflow="fold")
        for row in rows:
            table.add_row(*(printable(str(row[i])) for i in shown))
        if console.measure(table).maximum < console.width:
            break
    console.print(table)


def print_topics(texts: Sequence[tuple[str, str]]) -> None:
    """Print a line for each topic; on a terminal, long ones are wrapped beside it."""
    if not sys.stdout.isatty():
        for topic, text in texts:
            echo(printable(f"{topic:<11}{text}"))  # a newline in a text must not look like a topic
        return
    from rich.table import Table

    grid = Table.grid(padding=(0, 1))
    grid.add_column(min_width=10, no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for topic, text in texts:
        grid.add_row(printable(topic), printable(text))
    _console().print(grid)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 1000)


def print_encoding(encoding: Mapping[str, Any], best: str | None) -> None:
    """Print the metrics and the size of an adapter before and after it was encoded."""
    splits = encoding["after"]["metrics"]
    whens = [(split, when) for split in splits for when in ("before", "after")]
    print_table(*metric_table({f"{split} {when}": encoding[when]["metrics"][split] for split, when in whens}, best))
    sizes = [size(encoding[when]["bytes"]) for when in ("before", "after")]
    echo(f"encoding   {encoding['name']}: {sizes[0]} before, {sizes[1]} after")


def _print_plain(rows: Sequence[Sequence[Any]]) -> None:
    texts = [[printable(str(cell)) for cell in row] for row in rows]
    columns = list(zip(*texts, strict=True))
    for i, column in enumerate(columns):
        widths = [len(text) if text.isascii() else _cells(text) for text in column]
        widest = max(widths)
        columns[i] = tuple(text + " " * (widest - width) for text, width in zip(column, widths, strict=True))
    echo("\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True)))


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def print_faults(faults: Sequence[Fault], as_json: bool, otherwise: str, *, fixes: bool) -> None:
    """Print a row for each fault and end with exit code 1; print `otherwise` if there are none."""
    if as_json:
        print_json([{"kind": f.kind, "where": f.place, "what": f.what, "fix": f.fix} for f in faults])
    elif faults:
        columns = ["kind", "where", "what", *(["fix"] if fixes else [])]
        print_table(columns, [[f.kind, f.place, f.what, f.fix][: len(columns)] for f in faults])
    else:
        echo(otherwise)
    if faults:
        sys.exit(1)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: 1 adapter, 1,200 adapters."""
    return f"{count:,} {noun}" + ("s" if count != 1 else "")


def best_text(entry: Mapping[str, Any]) -> str:
    """Return the metric that chose an adapter's epoch, for a table: accuracy 0.933 (test, 120)."""
    return best_metric(entry["metrics"], entry.get("best")).replace(" rows)", ")")
