"""adapt pull: an adapter from the Hub."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import common_options, echo, print_json, registry_option
from adapterkit.store.registry import Registry


@click.command(short_help="Fetch an adapter from a repository on the Hub.")
@click.argument("repo", metavar="OWNER/REPO")
@click.option("--revision", metavar="REVISION", help="A branch, tag or commit; default: main.")
@click.option("--name", metavar="NAME", help="What it is called here; default: as the repository.")
@click.option("--lazy", is_flag=True, help="Fetch the manifest alone now, and the rest when it is first used.")
@registry_option()
@common_options
def command(
    repo: str, revision: str | None, name: str | None, lazy: bool, registry: Path | None, as_json: bool
) -> None:
    """Fetch the adapter in a repository, verify it by its digests, and register it.

    Its adapter.json is read first, then the files that this names, and nothing else. Nothing in it can run.
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
    echo(f'           try adapt predict {done.name} "…"')
