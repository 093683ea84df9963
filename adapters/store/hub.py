"""Share adapters: from a registry to the Hub, and from the Hub into a registry."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..adapter.manifest import MANIFEST
from ..adapter.model_card import CARD
from ..errors import AdapterError, HubError
from ..io.atomic import sha256, version_of
from ..io.untrusted import read_file
from . import hub_client
from .publish import publish_files
from .registry import Registry, check_name


@dataclass(frozen=True)
class Pulled:
    """An adapter of the Hub in a registry."""

    name: str
    version: str
    repo: str
    revision: str  # the commit
    folder: str
    manifest: dict[str, Any]


def push(
    registry: Registry,
    reference: str,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
) -> hub_client.Pushed:
    """Send an adapter's files, verified by their digests, and its card to a repository on the Hub, in one commit.

    Of a version, adapter.json, what it names and README.md are sent, and not run.yaml, which names files of its
    owner's. Raises `HubError`, and `AdapterError` where the version is damaged.
    """
    name, version = registry.resolve(reference)
    folder = registry.fetched(name, version)
    manifest = hub_client.verified_manifest(folder, version)
    names = [MANIFEST, *manifest["files"], *([CARD] if (folder / CARD).is_file() else [])]
    sizes = {file: about["bytes"] for file, about in manifest["files"].items()}
    try:
        files = {file: bytes(read_file(folder / file, size=sizes.get(file))) for file in names}
    except (OSError, ValueError) as error:
        raise AdapterError(f"'{folder}' can't be read: {error}") from error
    stated = {file: about["sha256"] for file, about in manifest["files"].items()}
    if version_of(files[MANIFEST]) != version or any(sha256(files[file]) != digest for file, digest in stated.items()):
        raise AdapterError(f"'{folder}' was changed while it was read")
    message = message or f"{name}: {manifest['task']['name']}, version {version}"
    done = hub_client.push(files, repo, private=private, revision=revision, message=message)
    base = manifest["base"]["name"]
    remark = f"adapter.json names the base by a path: '{base}'" if Path(base).is_absolute() else ""
    return replace(done, remark=remark)


def pull(
    registry: Registry, repo: str, *, revision: str | None = None, name: str | None = None, lazy: bool = False
) -> Pulled:
    """Fetch an adapter from the Hub and register it by `name`, or the repository's name; a damaged one leaves no file.

    With `lazy`, only its manifest; the other files are downloaded on first use. Raises `HubError`, `RegistryError`.
    """
    name = check_name(name or re.sub(r"[^A-Za-z0-9_-]+", "-", repo.rpartition("/")[2]).strip("-_")[:96])
    registry.prepare()
    fetched = hub_client.fetch(repo, revision, lazy=lazy)
    files, manifest = fetched.files, fetched.manifest
    folder = registry.folder(name, version_of(files[MANIFEST]))
    with_card = not lazy and not (folder / CARD).exists()  # an existing one may have been edited by its owner
    hub = {"repo": repo, "revision": fetched.commit}
    try:
        published = publish_files(registry, name, files, with_card=with_card, hub=hub)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HubError(f"{repo}: {MANIFEST} lacks fields that a registry needs: {error!r}") from error
    return Pulled(name, published.version, repo, fetched.commit, str(folder), manifest)
