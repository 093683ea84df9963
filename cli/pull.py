"""adapt pull: download an adapter from the Hub."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import common_options, echo, predict_command, print_json, registry_option
from adapterkit.store.registry import Registry


@click.command(short_help="Download an adapter from the Hugging Face Hub.")
@click.argument("repo", metavar="OWNER/REPO")
@click.option("--revision", metavar="REVISION", help="Branch, tag or commit. [default: main]")
@click.option("--name", metavar="NAME", help="Name of the adapter. [default: that of the repository]")
@click.option("--lazy", is_flag=True, help="Download the manifest now and the tensors on first use.")
@registry_option()
@common_options
def command(
    repo: str, revision: str | None, name: str | None, lazy: bool, registry: Path | None, as_json: bool
) -> None:
    """Download the adapter in a repository, verify its digests and register it.

    Only adapter.json and the files that it lists are downloaded; no code in the repository is run.

    \b
    adapt pull owner/reviews-lora
    adapt pull owner/reviews-lora --revision v2 --name reviews
    """
    from adapterkit.store.hub import pull

    done = pull(Registry.at(registry), repo, revision=revision, name=name, lazy=lazy)
    base = done.manifest["base"]
    if as_json:
        about = {"name": done.name, "version": done.version, "repo": repo, "revision": done.revision}
        print_json({**about, "folder": done.folder, "base": base.get("hub_id") or base["name"]})
        return
    how = "registered" if lazy else "pulled"
    echo(f"{how:<10} {done.name}@{done.version} from {repo} at {done.revision}, for base '{base['name']}'")
    echo(f"try        {predict_command(done.name)}")
