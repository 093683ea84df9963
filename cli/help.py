"""Help in sections: the flags of a run by what they are about, the common ones first, and all with --help-all."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapterkit.errors import AdapterkitError

if TYPE_CHECKING:
    from adapterkit.strategy import Strategy

SECTIONS = ("Strategy", "Task", "Data", "Base model", "Training", "Search", "Checkpoints", "Output", "Other")
_OF_COMMANDS = {
    **{"strategy": "Strategy", "config": "Strategy", "task": "Task", "num_processes": "Training"},
    **{
        "strategies": "Strategy",
        "tasks": "Data",
        "each": "Data",
        "seeds": "Search",
        "time": "Search",
        "baselines": "Search",
        "csv_file": "Output",
    },
    **{"report": "Output", "keep": "Output"},
    **dict.fromkeys(("on", "ray_address", "workers", "cpus_per_worker", "gpus_per_worker"), "Training"),
    **{"search": "Search", "trials": "Search", "resume": "Checkpoints", "report_to": "Output", "save_as": "Output"},
    **{"help_all": "Other", "debug": "Other", "_click_default_help": "Other"},
    **{
        "name": "Output",
        "registry": "Output",
        "overwrite": "Output",
        "stage": "Output",
        "out": "Output",
        "as_json": "Output",
    },
}
"""The sections of flags that don't come from a strategy, a task or a section of the settings."""
COMMON = (
    *("strategy", "config", "learning_rate", "task", "text_column_name", "label_column_name", "max_seq_length"),
    *("train_file", "validation_file", "test_file", "dataset", "max_train_samples", "base"),
    *("num_train_epochs", "per_device_train_batch_size", "seed", "num_processes", "search", "trials", "resume"),
    *("strategies", "seeds", "time", "baselines", "keep", "csv_file", "report", "tasks"),
    *("name", "registry", "overwrite", "stage", "out", "as_json", "_click_default_help", "help_all"),
)
"""What `--help` shows, in this order within each section, beside the options of the strategy and of a known task."""


def help_all_option(command: Any) -> Any:
    """Add --help-all."""

    def show(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            ctx.meta["help_all"] = True
            click.echo(ctx.get_help())
            ctx.exit()

    return click.option(
        "--help-all", is_flag=True, is_eager=True, expose_value=False, callback=show, help="Show every flag and exit."
    )(command)


def write_sections(
    ctx: click.Context,
    formatter: click.HelpFormatter,
    params: list[click.Parameter],
    strategy: type[Strategy] | None,
    task: str | None,
) -> None:
    """Write a command's flags in sections: all of them after --help-all, else the common ones.

    Options of the strategy are always shown, and those of the task where it is known.
    """
    from adapterkit.options import options

    of_strategy = list(options(strategy)) if strategy is not None else []
    of_task = _task_options(task)
    places = section_of(of_strategy)
    every = bool(ctx.meta.get("help_all"))
    hidden = 0
    sections: dict[str, list[tuple[int, tuple[str, str]]]] = {name: [] for name in SECTIONS}
    for param in params:
        name = param.name or ""
        record = param.get_help_record(ctx)
        if record is None or not isinstance(param, click.Option):
            continue
        section = places.get(name, "Task")
        if section == "Task" and task is not None and name not in of_task and name != "task":
            continue  # an option of another task
        if not every and name not in (*COMMON, *of_strategy, *(of_task if task is not None else ())):
            hidden += 1
            continue
        rank = COMMON.index(name) if name in COMMON else len(COMMON)
        sections[section].append((rank, record))
    for title, records in sections.items():
        if records:
            with formatter.section(title):
                formatter.write_dl([record for _, record in sorted(records, key=lambda pair: pair[0])])
    if hidden:
        formatter.write_paragraph()
        formatter.write_text(f"{hidden} more flags: --help-all")


def section_of(of_strategy: list[str]) -> dict[str, str]:
    """Return the section of each option that doesn't belong to a task."""
    from adapterkit.options import options
    from adapterkit.settings import BaseOptions, DataOptions, SavingOptions, TrainingOptions

    titles = {"Base model": BaseOptions, "Data": DataOptions, "Training": TrainingOptions, "Checkpoints": SavingOptions}
    places = {name: title for title, section in titles.items() for name in options(section)}
    return {**places, **dict.fromkeys(of_strategy, "Strategy"), **_OF_COMMANDS}


def _task_options(task: str | None) -> list[str]:
    from adapterkit.options import options
    from adapterkit.tasks import TASKS, task_class

    return list(options(task_class(task))) if task is not None else [n for t in TASKS.values() for n in options(t)]


def task_of(chosen: Mapping[str, Any]) -> str | None:
    """Return the task that flags name, or that the first row of their --train-file fits; None where that isn't known.

    Only csv, tsv and jsonl files are looked into, without the libraries that read them for a training.
    """
    if chosen.get("task"):
        return str(chosen["task"])
    path = Path(str(chosen.get("train_file") or ""))
    try:
        row = _first_row(path)
    except (OSError, ValueError, csv.Error):
        return None
    if not row:
        return None
    from adapterkit.tasks import infer_task

    try:
        columns = {key: value for key, value in chosen.items() if key.endswith("column_name")}
        return infer_task(row, columns)
    except AdapterkitError:
        return None


def _first_row(path: Path) -> dict[str, Any]:
    if path.suffix not in (".csv", ".tsv", ".jsonl"):
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            row = json.loads(file.readline(1 << 20))
            return row if isinstance(row, dict) else {}
        rows = list(islice(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","), 1))
    return dict(rows[0]) if rows else {}
