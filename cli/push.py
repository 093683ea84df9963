"""adapt push: an adapter to the Hub."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import adapter_argument, common_options, echo, print_json, registry_option
from adapterkit.store.registry import Registry


@click.command(short_help="Send an adapter to a repository on the Hub.")
@adapter_argument()
@click.argument("repo", metavar="OWNER/REPO")
@click.option("--private", is_flag=True, help="Make the repository a private one, where there is none yet.")
@click.option("--revision", metavar="BRANCH", help="The branch to write to, made where there is none; default: main.")
@click.option("--message", help="Of the commit; default: name, task and version.")
@registry_option()
@common_options
def command(
    name: str,
    repo: str,
    private: bool,
    revision: str | None,
    message: str | None,
    registry: Path | None,
    as_json: bool,
) -> None:
    """Send the files of the adapter NAME or NAME@VERSION, and its card, to a repository, in one commit.

    The repository is made where there is none. The token is the one of `hf auth login`, or of $HF_TOKEN.
    """
    from adapterkit.store.hub import push

    done = push(Registry.at(registry), name, repo, private=private, revision=revision, message=message)
    if as_json:
        print_json({"adapter": name, "repo": repo, "url": done.url, "commit": done.commit})
        return
    if done.remark:
        echo(f"note       {done.remark}", err=True)
    echo(f"pushed     {name} to {done.url}, commit {done.commit}; adapt pull {repo} fetches it")
