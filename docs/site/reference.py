"""Pages of the reference that are generated: public names, commands, strategies and tasks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

import adapterkit
from adapterkit import errors
from adapterkit.cli.help import SECTIONS as ORDER
from adapterkit.cli.help import section_of
from adapterkit.cli.main import SECTIONS, main
from adapterkit.discovery import ADAPTERKIT, installed, load_strategy
from adapterkit.options import options
from adapterkit.tasks import TASKS

API = {
    "Train and predict": ("run", "load", "Report", "AdaptedModel", "Plan", "Watch"),
    "One adapter": ("Adapter", "Base", "train", "evaluate", "predict"),
    "Many adapters": ("Pool", "Registry"),
    "Extend": ("Strategy", "Patch", "Update", "LowRank", "Replace", "Bias", "Scale"),
    "Errors": ("AdapterkitError",),
}
"""The public names by what they are for; a test compares them with `adapterkit.__all__`."""
BESIDE = {"Many adapters": ("adapterkit.runtime.OnnxPool",), "Extend": ("adapterkit.testing.contract",)}
"""Documented names of subpackages."""


def pages() -> dict[str, str]:
    """Return the generated pages by their path in the site."""
    return {
        **api_pages(),
        **dict(command_pages()),
        **dict(strategy_pages()),
        **dict(task_pages()),
    }


def slug(title: str) -> str:
    """Return the name of a page's file."""
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def api_pages() -> dict[str, str]:
    """Return a page for each group of public names, filled from docstrings when the site is built."""
    pages = {}
    rows = []
    for title, names in API.items():
        page = f"reference/api/{slug(title)}.md"
        full = [*(f"adapterkit.{name}" for name in names), *BESIDE.get(title, ())]
        if title == "Errors":
            full += [f"adapterkit.errors.{name}" for name in error_names()]
        pages[page] = f"# {title}\n\n" + "\n\n".join(f"::: {name}" for name in full) + "\n"
        rows += [f"| [`{name}`]({slug(title)}.md#{name}) | {first_sentence(name)} |" for name in full]
    table = "\n".join(["| name | |", "|---|---|", *rows])
    pages["reference/api/index.md"] = (
        "# Python API\n\nThe names of `import adapterkit as ak`. They are imported on first use, so it doesn't "
        "import torch. Every example runs as a test, in a folder with `reviews.csv` (64 labelled reviews), where "
        '`ak.run(strategy="head-only", train_file="reviews.csv", name="reviews")` has run; in some of them `base` is '
        f'`ak.Base.load("minilm")`.\n\n{table}\n'
    )
    return pages


def error_names() -> list[str]:
    """Return the errors that adapterkit raises, below their parent."""
    kinds = [value for value in vars(errors).values() if inspect.isclass(value)]
    return [one.__name__ for one in kinds if issubclass(one, adapterkit.AdapterkitError | Warning)][1:]


def first_sentence(name: str) -> str:
    """Return the first paragraph of a public name's docstring."""
    module, _, attribute = name.rpartition(".")
    value = getattr(__import__(module, fromlist=[attribute]), attribute)
    return cell((inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " "))


def cell(text: str) -> str:
    """Return a text as the cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


# ---- commands


def walk(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield a command and those below it."""
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=words[-1])
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from walk(below, (*words, name))


def command_pages() -> Iterator[tuple[str, str]]:
    """Yield a page for each command, and a list of them."""
    lines = ["# Commands", "", "`adapt COMMAND --help` prints the same; `--help-all` of a run prints every flag.", ""]
    for section, commands in SECTIONS.items():
        lines += [f"## {section}", "", "| command | |", "|---|---|"]
        for name, text in commands.items():
            lines.append(f"| [`adapt {name}`]({name}.md) | {cell(text)} |")
            command = main.get_command(click.Context(main), name)
            assert command is not None
            parts = [command_text(words, one) for words, one in walk(command, ("adapt", name))]
            yield f"reference/commands/{name}.md", "\n".join(parts)
        lines.append("")
    yield "reference/commands/index.md", "\n".join(lines)


def command_text(words: Sequence[str], command: click.Command) -> str:
    """Return the text of a command: usage, what it does, and its flags by section."""
    context = command.make_context(" ".join(words), [], resilient_parsing=True)
    params = command.get_params(context)
    usage = " ".join(command.collect_usage_pieces(context))
    level = "#" * (len(words) - 1)
    lines = [f"{level} {' '.join(words)}", "", "```text", f"{' '.join(words)} {usage}", "```", ""]
    lines += [help_text(command), ""]
    for title, rows in flags(context, params).items():
        lines += [f"**{title}**", ""] if title else []
        lines += [f"{name}\n:   {text.replace('<', '&lt;')}\n" for name, text in rows]
    return "\n".join(lines)


def help_text(command: click.Command) -> str:
    """Return a command's docstring as Markdown; what click leaves unwrapped is an example."""
    parts = []
    for part in inspect.cleandoc(command.help or "").split("\n\n"):
        unwrapped = part.startswith("\b\n")
        parts.append(f"```sh\n{part[2:]}\n```" if unwrapped else part.replace("<", "&lt;"))
    return "\n\n".join(parts)


def flags(context: click.Context, params: Sequence[click.Parameter]) -> dict[str, list[tuple[str, str]]]:
    """Return the names and help of flags by section; commands that aren't runs have one section."""
    run = len(params) > 30
    strategy = [name for one in strategies().values() for name in options(one)]
    places = section_of(strategy) if run else {}
    sections: dict[str, list[tuple[str, str]]] = {}
    for param in params:
        record = param.get_help_record(context)
        if record is not None and isinstance(param, click.Option):
            section = places.get(param.name or "", "Task") if run else ""
            sections.setdefault(section, []).append((spellings(param, record[0]), record[1]))
    return {title: sections[title] for title in ("", *ORDER) if title in sections}


def spellings(param: click.Option, shown: str) -> str:
    """Return all spellings of a flag as code, the help's first, and what it takes."""
    others = [flag for flag in param.opts if flag not in re.split(r"[ ,/]+", shown)]
    return ", ".join(f"`{one}`" for one in [*re.split(r", (?=-)", shown), *others])


# ---- strategies and tasks


def strategies() -> dict[str, Any]:
    """Return adapterkit's strategies by name."""
    return {one.name: load_strategy(one) for one in installed() if one.distribution == ADAPTERKIT}


def strategy_pages() -> Iterator[tuple[str, str]]:
    """Yield a page for each strategy that comes with adapterkit, and a list of them."""
    rows = []
    for name, cls in strategies().items():
        source = Path(inspect.getfile(cls)).read_text(encoding="utf-8")
        text = [f"# {name}", "", inspect.getdoc(cls) or "", "", "```sh", f"adapt run --strategy {name}", "```", ""]
        text += [*option_list(cls), ""]
        text += ["## Source", "", f"All of it, `plugins/{Path(inspect.getfile(cls)).name}`:", ""]
        text += ["```python", source.rstrip(), "```", ""]
        yield f"reference/strategy/{name}.md", "\n".join(text)
        rows.append(f"| [`{name}`]({name}.md) | {cell((inspect.getdoc(cls) or '').partition(chr(10))[0])} |")
    about = "Each strategy from its class. [The strategies](../strategies.md) explains when to use which."
    yield (
        "reference/strategy/index.md",
        "\n".join(["# Strategies", "", about, "", "| strategy | |", "|---|---|", *rows]),
    )


def task_pages() -> Iterator[tuple[str, str]]:
    """Yield a page for each task, and a list of them."""
    rows = []
    for name, cls in TASKS.items():
        text = [f"# {name}", "", inspect.getdoc(cls) or "", "", "```sh", f"adapt run --task {name} --train-file FILE"]
        text += ["```", "", *column_table(cls), "", *option_list(cls), ""]
        yield f"reference/task/{name}.md", "\n".join(text)
        rows.append(f"| [`{name}`]({name}.md) | {cell((inspect.getdoc(cls) or '').partition(chr(10))[0])} |")
    about = "Each task from its class. [Tasks, files and metrics](../tasks.md) explains them."
    yield "reference/task/index.md", "\n".join(["# Tasks", "", about, "", "| task | |", "|---|---|", *rows])


def column_table(cls: Any) -> list[str]:
    """Return a table of the columns that a task finds by itself."""
    rows = [
        f"| `--{option.replace('_', '-')}` | {', '.join(f'`{name}`' for name in names)} |"
        for option, names in cls.usual_columns.items()
    ]
    about = "Without these flags, columns of the following names are used."
    return ["## Columns", "", about, "", "| flag | columns |", "|---|---|", *rows] if rows else []


def option_list(cls: Any) -> list[str]:
    """Return a class's options as a list of definitions, which fits a phone as no table of four columns does."""
    rows = []
    for option in options(cls).values():
        default = ", ".join(option.default) if isinstance(option.default, tuple) else option.default
        shown = "" if default in (None, "") or not isinstance(default, (int, float, str)) else f" [default: {default}]"
        names = ", ".join(f"`{name}`" for name in (option.flag, *option.aliases))
        rows.append(f"{names} {option.expected}\n:   {option.help}{shown}\n".replace("<", "&lt;"))
    return ["## Options", "", *rows] if rows else []
