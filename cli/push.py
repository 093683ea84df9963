"""adapt push: upload an adapter to the Hub."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import adapter_argument, common_options, echo, print_json, registry_option
from adapterkit.store.registry import Registry


@click.command(short_help="Upload an adapter to the Hugging Face Hub.")
@adapter_argument()
@click.argument("repo", metavar="OWNER/REPO")
@click.option("--private", is_flag=True, help="Create the repository as a private one.")
@click.option("--revision", metavar="BRANCH", help="Branch to write to, created if missing. [default: main]")
@click.option("--message", help="Commit message. [default: name, task and version]")
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
    """Upload the adapter NAME or NAME@VERSION and its model card to a repository, in one commit.

    The repository is created if missing. The token is that of `hf auth login` or $HF_TOKEN.

    \b
    adapt push reviews-lora owner/reviews-lora
    adapt push reviews-lora@best owner/reviews-lora --private
    """
    from adapterkit.store.hub import push

    done = push(Registry.at(registry), name, repo, private=private, revision=revision, message=message)
    if as_json:
        print_json({"adapter": name, "repo": repo, "url": done.url, "commit": done.commit})
        return
    if done.remark:
        echo(f"note       {done.remark}", err=True)
    echo(f"pushed     {name} to {done.url}, commit {done.commit}; adapt pull {repo} fetches it")
