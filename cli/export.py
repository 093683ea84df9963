"""adapt export: adapters for PEFT, transformers, llama.cpp or onnxruntime."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import (
    TerminalWatch,
    adapter_names,
    base_options,
    common_options,
    counted,
    echo,
    print_json,
    registry_option,
    size,
)
from adapterkit.errors import OptionError
from adapterkit.store.registry import Registry

_LOADING = {
    "peft": 'peft.PeftModel.from_pretrained(model, "{folder}")',
    "merged": 'transformers.{auto_class}.from_pretrained("{folder}")',
    "sentence-transformers": 'sentence_transformers.SentenceTransformer("{folder}")',
    "gguf-ready": "python convert_hf_to_gguf.py {folder}",
}


@click.command(short_help="Export adapters for PEFT, transformers, llama.cpp or onnxruntime.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=adapter_names)
@click.option(
    "--format",
    "form",
    type=click.Choice([*_LOADING, "onnx"]),
    required=True,
    help="A PEFT adapter, a plain transformers model, a SentenceTransformer, a model that llama.cpp can convert, or a "
    "folder for onnxruntime.",
)
@click.option("--to", metavar="DIR", type=click.Path(path_type=Path), required=True, help="A new or empty folder.")
@base_options()
@registry_option()
@common_options
def command(
    names: tuple[str, ...],
    form: str,
    to: Path,
    base_name: str | None,
    allow_base_mismatch: bool,
    registry: Path | None,
    as_json: bool,
) -> None:
    """Export the adapter NAME or NAME@VERSION to a new folder, for tools other than adapterkit.

    peft writes the adapter and the name of its base; merged, sentence-transformers and gguf-ready write one model that
    includes the base; onnx writes the base once and small files of several adapters, which adapt predict --runtime onnx
    answers from.

    \b
    adapt export reviews-lora --format peft --to reviews-peft
    adapt export reviews-lora --format merged --to reviews-model
    adapt export reviews-lora topics-probe --format onnx --to onnx
    """
    if form == "onnx":
        _export_onnx(names, to, base_name, allow_base_mismatch, registry, as_json)
        return
    if len(names) > 1:
        raise OptionError(f"--format {form} takes one adapter, got {len(names)}: {', '.join(names)}")
    from adapterkit.workflows.export import export_adapter

    exported = export_adapter(
        Registry.at(registry),
        names[0],
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


def _export_onnx(
    names: tuple[str, ...],
    to: Path,
    base_name: str | None,
    allow_base_mismatch: bool,
    registry: Path | None,
    as_json: bool,
) -> None:
    """Export adapters of one base for onnxruntime, and print what was written."""
    from adapterkit.workflows.export import export_onnx

    exported = export_onnx(
        Registry.at(registry),
        names,
        to,
        base=base_name,
        allow_base_mismatch=allow_base_mismatch,
        watch=TerminalWatch(),
    )
    if as_json:
        print_json(exported.plain())
        return
    load = f'adapterkit.runtime.OnnxPool("{to}")'
    echo(
        f"written    {to}: {counted(len(exported.references), 'adapter')}, {size(exported.nbytes)}; load it with {load}"
    )
