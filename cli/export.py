"""adapt export: an adapter for PEFT, transformers or llama.cpp."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import (
    TerminalWatch,
    adapter_argument,
    base_options,
    common_options,
    echo,
    print_json,
    registry_option,
    size,
)
from adapterkit.store.registry import Registry

_LOADING = {
    "peft": 'peft.PeftModel.from_pretrained(model, "{folder}")',
    "merged": 'transformers.{auto_class}.from_pretrained("{folder}")',
    "gguf-ready": "python convert_hf_to_gguf.py {folder}",
}


@click.command(short_help="Export an adapter for PEFT, transformers or llama.cpp.")
@adapter_argument()
@click.option(
    "--format",
    "form",
    type=click.Choice(list(_LOADING)),
    required=True,
    help="A PEFT adapter, a plain transformers model, or a model that llama.cpp can convert.",
)
@click.option("--to", metavar="DIR", type=click.Path(path_type=Path), required=True, help="A new or empty folder.")
@base_options()
@registry_option()
@common_options
def command(
    name: str,
    form: str,
    to: Path,
    base_name: str | None,
    allow_base_mismatch: bool,
    registry: Path | None,
    as_json: bool,
) -> None:
    """Export the adapter NAME or NAME@VERSION to a new folder, for tools other than adapterkit.

    peft writes the adapter and the name of its base; merged and gguf-ready write one model that includes the base.

    \b
    adapt export reviews-lora --format peft --to reviews-peft
    adapt export reviews-lora --format merged --to reviews-model
    """
    from adapterkit.workflows.export import export_adapter

    exported = export_adapter(
        Registry.at(registry),
        name,
        form,
        to,
        base=base_name,
        allow_base_mismatch=allow_base_mismatch,
        watch=TerminalWatch(),
    )
    if as_json:
        print_json(exported.plain())
        return
    load = _LOADING[form].format(folder=to, auto_class=exported.auto_class)
    echo(f"written    {to}: {size(exported.nbytes)}; load it with {load}")
    if form == "peft" and exported.auto_class == "AutoModel":
        echo("head       a probe, which PEFT doesn't load: its weight and bias are in adapter_model.safetensors")
