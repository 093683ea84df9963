"""adapt import: an adapter that PEFT made, among the registered ones."""

from __future__ import annotations

import re
from pathlib import Path

import click

from adapterkit.cli.common import common_options, echo, print_json, registry_option, size
from adapterkit.errors import OptionError
from adapterkit.store.registry import Registry, check_name


@click.command(short_help="Take in an adapter that PEFT made.")
@click.argument("source", metavar="DIR|HUB-ID")
@click.option("--name", metavar="NAME", help="The adapter's name; default: the folder's or the repository's.")
@click.option("--task", metavar="NAME", help="What it does; default: what adapter_config.json says, as its task_type.")
@click.option("--labels", metavar="A,B", help="The labels in order; default: the base's, or LABEL_0, LABEL_1, ...")
@click.option(
    "--task-option", "task_options", metavar="NAME=VALUE", multiple=True, help="Another option of the task, as a run's."
)
@click.option("--base", "base_name", metavar="NAME", help="The base; default: what adapter_config.json names.")
@click.option("--revision", metavar="NAME", help="Branch, tag or commit of a Hub id.")
@registry_option()
@common_options
def command(
    source: str,
    name: str | None,
    task: str | None,
    labels: str | None,
    task_options: tuple[str, ...],
    base_name: str | None,
    revision: str | None,
    registry: Path | None,
    as_json: bool,
) -> None:
    """Take in an adapter that PEFT made: LoRA (rsLoRA, DoRA, ranks and alphas by module) or IA3, with its head.

    It is read from safetensors and JSON alone, and registered if it gives the logits that PEFT gives with it.
    """
    options = dict(_pair(text) for text in task_options)
    if labels is not None:
        options["labels"] = labels
    last = Path(source).resolve().name if Path(source).is_dir() else source.rpartition("/")[2]
    own = check_name(name or re.sub(r"[^A-Za-z0-9_-]+", "-", last).strip("-_")[:96])
    where = Registry.at(registry)
    where.prepare()

    from adapterkit.convert.peft_import import base_of, imported, task_of
    from adapterkit.convert.peft_reader import PeftFolder
    from adapterkit.store.publish import publish

    folder = PeftFolder.read(source, revision)
    adapter = imported(folder, base_of(folder, base_name), task_of(folder, task), options)
    version = publish(where, own, adapter).version
    report = {
        "name": own,
        "version": version,
        "folder": str(where.folder(own, version)),
        "task": adapter.task.name,
        "base": adapter.manifest["base"]["name"],
        "parameters": adapter.manifest["parameters"],
    }
    if as_json:
        print_json(report)
        return
    m = adapter.manifest
    about = f"{m['task']['name']}: {text}" if (text := adapter.task.summary()) else m["task"]["name"]
    echo(f"task       {about}; {adapter.task.describe_columns()}")
    echo(f"logits     as PEFT's on base {m['base']['name']}")
    kept = sum(file.stat().st_size for file in where.folder(own, version).iterdir())
    echo(f'saved      {report["folder"]}: {size(kept)}; try adapt predict {own} "…"')


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise OptionError(f"--task-option {text}: NAME=VALUE was expected, as in max_seq_length=256")
    return key.replace("-", "_"), value
