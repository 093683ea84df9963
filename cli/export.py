"""adapt export: an adapter for PEFT, for transformers, or for llama.cpp."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import (
    adapter_argument,
    base_options,
    common_options,
    echo,
    moved,
    print_json,
    registry_option,
    size,
)
from adapterkit.store.registry import Registry

_LOADING = {
    "peft": 'peft.PeftModel.from_pretrained(model, "{to}")',
    "merged": 'transformers.{auto_class}.from_pretrained("{to}")',
    "gguf-ready": "python convert_hf_to_gguf.py {to}",
}


@click.command(short_help="Write an adapter for PEFT, transformers or llama.cpp.")
@adapter_argument()
@click.option(
    "--format",
    "form",
    type=click.Choice(list(_LOADING)),
    required=True,
    help="A PEFT adapter, a plain transformers model, or one that llama.cpp's converter reads.",
)
@click.option("--to", metavar="DIR", type=click.Path(path_type=Path), required=True, help="Where; a new folder.")
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
    """Write the adapter NAME or NAME@VERSION into a new folder, for tools that know nothing of adapterkit.

    `peft` holds the adapter alone and names its base; `merged` and `gguf-ready` hold the base, too.
    """
    where = Registry.at(registry)
    reference = "@".join(where.resolve(name))

    from adapterkit.base.base import Base
    from adapterkit.convert.export import check, write_model, write_peft
    from adapterkit.convert.merge import check_folder

    check_folder(to)
    adapter = where.load(reference)
    check(adapter, form)
    stored = adapter.manifest["base"]
    found = where.locate(stored["name"]) if base_name is None else base_name
    if form == "peft":
        write_peft(adapter, to, base=found)
    else:
        base = Base.from_manifest(stored, found)
        write_model(base, moved(reference, adapter, base, allow_base_mismatch), to, form=form)
    if as_json:
        files = sorted(file.name for file in to.iterdir())
        print_json({"exported": reference, "format": form, "to": str(to), "files": files})
        return
    load = _LOADING[form].format(to=to, auto_class=adapter.task.auto_class)
    echo(f"written    {to}: {size(sum(f.stat().st_size for f in to.iterdir()))}; load it with {load}")
