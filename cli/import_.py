"""adapt import: register an adapter that was trained with PEFT or sentence-transformers."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import common_options, echo, predict_command, print_json, registry_option, size
from adapterkit.errors import OptionError
from adapterkit.store.registry import Registry


@click.command(short_help="Import an adapter trained with PEFT or sentence-transformers.")
@click.argument("source", metavar="DIR|HUB-ID")
@click.option("--name", metavar="NAME", help="Name of the adapter. [default: that of the folder or repository]")
@click.option("--task", metavar="NAME", help="Task of the adapter. [default: task_type in adapter_config.json]")
@click.option("--labels", metavar="A,B", help="Labels in order. [default: the base's, else LABEL_0, LABEL_1, ...]")
@click.option(
    "--task-option",
    "task_options",
    metavar="NAME=VALUE",
    multiple=True,
    help="An option of the task, as in adapt run; repeatable.",
)
@click.option("--base", "base_name", metavar="NAME", help="Base model. [default: the one in adapter_config.json]")
@click.option("--revision", metavar="NAME", help="Branch, tag or commit on the Hub.")
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
    """Import an adapter trained with PEFT: LoRA (rsLoRA, DoRA, ranks and alphas by module) or IA3, with its head.

    Only safetensors and JSON files are read. The adapter is registered if its logits equal those of PEFT. A folder of
    SentenceTransformer is imported as what it differs by from --base, if the vectors are equal.

    \b
    adapt import ./my-peft-adapter --labels negative,positive
    adapt import owner/repo --name reviews --task text-classification
    adapt import ./my-sentence-transformer --base minilm
    """
    options = dict(_pair(text) for text in task_options)
    if labels is not None:
        options["labels"] = labels

    from adapterkit.workflows.peft_import import import_adapter

    imported = import_adapter(
        Registry.at(registry),
        source,
        name=name,
        task=task,
        task_options=options,
        base=base_name,
        revision=revision,
    )
    if as_json:
        print_json(imported.plain())
        return
    trained = imported.adapter.task
    about = f"{trained.name}: {text}" if (text := trained.summary()) else trained.name
    echo(f"task       {about}; {trained.describe_columns()}")
    of_peft = imported.adapter.manifest["strategy"]["distribution"] == "peft"
    equal = "logits     equal to PEFT's" if of_peft else "vectors    equal to the folder's"
    echo(f"{equal} on base {imported.base}")
    echo(f"saved      {imported.folder}: {size(imported.nbytes)}")
    echo(f"try        {predict_command(imported.name)}")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise OptionError(f"--task-option {text}: expected NAME=VALUE, as in max_seq_length=256")
    return key.replace("-", "_"), value
