"""adapt data: what a run would read of its files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from adapterkit.cli.common import TerminalWatch, common_options, counted, echo, print_json, print_table, print_topics
from adapterkit.cli.run import RunCommand, resolved, run_options
from adapterkit.errors import printable

if TYPE_CHECKING:
    from adapterkit.workflows.data_overview import DataOverview, Seen

COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red")
"""The colours of tags, one for each type of entity in turn."""
MOST = 20
"""The most labels of a table; --json prints all of them."""


@click.command(cls=RunCommand, short_help="Show what a run would read of its files.")
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path())
@run_options
@click.option("--first", type=click.IntRange(min=0), default=3, show_default=True, help="Rows to show as tokens.")
@common_options
def command(files: tuple[str, ...], config: str | None, first: int, as_json: bool, **flags: Any) -> None:
    """Show what `adapt run` would read of its files, and what looks like a mistake in them; nothing is trained.

    FILE is a file, a folder, demo:NAME or a data set on the Hub; the splits of several files are inferred from their
    names. Flags are those of `adapt run`.

    \b
    adapt data reviews.csv
    adapt data train.conll dev.conll --first 5
    """
    from adapterkit.workflows.data_overview import overview, sources

    flags |= sources(files) if files else {}
    shown = overview(resolved(config, flags), first=first, watch=None if as_json else _Bars())
    if as_json:
        print_json(shown.plain())
    else:
        _show(shown)


class _Bars(TerminalWatch):
    """Draw bars, and leave remarks to the report."""

    def note(self, topic: str, text: str) -> None:
        """Print nothing."""


def _show(of: DataOverview) -> None:
    topics = [("task", f"{of.task}: {of.reads}" + (f"; {of.summary}" if of.summary else ""))]
    topics += [(split, f"{counted(of.rows[split], 'row')} of {of.files[split]}") for split in of.rows]
    formats = {of.files[split]: how for split, how in of.formats.items() if how}
    several = len(formats) > 1
    topics += [("format", f"{file}: {how}" if several else how) for file, how in formats.items()]
    topics += [("remark", remark) for remark in of.remarks]
    print_topics(topics)
    echo()
    columns = [[c.name, c.read_as or "not read", c.type, f"{c.filled:,}", c.example] for c in of.columns]
    print_table(["column", "read as", "type", "filled", "first value"], columns)
    if of.labels:
        echo()
        rows = [[label, *(f"{count:,}" for count in counts.values())] for label, counts in of.labels.items()]
        print_table(["label", *of.rows], rows[:MOST])
        if len(rows) > MOST:
            echo(f"… and {len(rows) - MOST:,} more labels; --json prints them")
    if of.lengths:
        echo()
        tokens = [[x.split, x.option, x.limit, x.median, x.most, x.longest, f"{x.longer:,}"] for x in of.lengths]
        print_table(["tokens", "option", "limit", "median", "95 %", "longest", "longer"], tokens)
    for seen in of.seen:
        echo()
        _show_row(seen)


def _show_row(seen: Seen) -> None:
    """Print a row as the model sees it, tags in colour on a terminal and behind the token elsewhere."""
    from rich.console import Console
    from rich.text import Text

    text = Text()
    colours: dict[str, str] = {}
    for number, decoded in enumerate(seen.texts):
        text.append("\n" * (number > 0))
        if seen.labels and number == 0:
            _append_tagged(text, seen, colours)
        else:
            text.append(printable(decoded))
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 1000)
    console.print(Text(f"line {seen.line}", style="bold"), Text(f"-> {printable(seen.answer)}" if seen.answer else ""))
    console.print(text)


def _append_tagged(text: Any, seen: Seen, colours: dict[str, str]) -> None:
    for token, label in zip(seen.tokens, seen.labels, strict=True):
        kind = label.partition("-")[2] or label
        tagged = bool(label) and label != "O"
        colour = colours.setdefault(kind, COLOURS[len(colours) % len(COLOURS)]) if tagged else ""
        text.append(printable(token), style=colour)
        text.append(f"/{printable(label)} " if tagged else " ", style=f"{colour} dim" if colour else "")
