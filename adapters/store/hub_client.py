"""The Hub: send an adapter's files to a repository there, and fetch those that its manifest names, each verified."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from ..adapter.adapter import Adapter
from ..adapter.manifest import MANIFEST, PEFT_CONFIG, TENSORS, parse_manifest
from ..adapter.model_card import CARD, card
from ..errors import AdapterkitError, HubError, RegistryError, file_errors_as
from ..io.atomic import check_writable, version_of, write_folder

MOST = 4 << 20
"""Bytes of an adapter.json; one that is longer isn't read to its end."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SECONDS = 20.0  # without a byte


@dataclass(frozen=True)
class Pushed:
    """Where an adapter is on the Hub now."""

    url: str
    commit: str
    remark: str = ""


@dataclass(frozen=True)
class Fetched:
    """An adapter from the Hub: its files as they are there, its manifest, and the commit that they are of."""

    files: dict[str, bytes]
    manifest: dict[str, Any]
    commit: str


def push(
    files: Mapping[str, bytes], repo: str, *, private: bool = False, revision: str | None = None, message: str
) -> Pushed:
    """Send files to a repository in one commit; it is made where there is none, and so is a branch `revision`.

    Raises `HubError`.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    with _plain_words(repo, revision):
        api = HfApi(library_name="adapterkit")
        api.create_repo(repo, private=private or None, exist_ok=True)
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        operations = [CommitOperationAdd(name, data) for name, data in files.items()]
        made = api.create_commit(repo, operations, commit_message=message, revision=revision)
        return Pushed(f"{api.endpoint}/{repo}", str(made.oid))


def fetch(repo: str, revision: str | None = None, *, version: str | None = None, lazy: bool = False) -> Fetched:
    """Fetch an adapter: its manifest, then the files that this names, of the same commit; if `lazy`, no others.

    Nothing else in the repository is looked at. Sizes and digests are the manifest's, and the manifest is that of
    `version` where that is given. Raises `HubError`.
    """
    with tempfile.TemporaryDirectory(prefix="adapterkit-") as place, _plain_words(repo, revision):
        folder = Path(place)
        try:
            commit = _download(repo, MANIFEST, revision or "main", folder, most=MOST, verified=version is not None)
            data = (folder / MANIFEST).read_bytes()
            found = version_of(data)
            if version not in (None, found):
                raise HubError(f"'{repo}' holds version {found} at {commit[:12]}, and {version} was expected")
            manifest = parse_manifest(data)
            if not lazy:
                for name, size in _sizes(repo, manifest, folder).items():
                    _download(repo, name, commit, folder, most=size, verified=True)
                manifest = Adapter.load(folder, version=found).manifest
        except AdapterkitError as error:
            raise HubError(str(error).replace(f"{folder}/", f"{repo}: ")) from None
        except ValueError as error:
            raise HubError(f"{repo}: {MANIFEST} is not an adapter's manifest: {error}") from None
        return Fetched({file.name: file.read_bytes() for file in folder.iterdir()}, manifest, commit)


def bring(folder: Path, hub: Any, beside: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]) -> None:
    """Fetch the version that a registry's entry names by `repo` and `revision` into its folder, with what is `beside`.

    Raises `HubError`, and `RegistryError` where it can't be written.
    """
    if not isinstance(hub, dict) or not all(isinstance(hub.get(key), str) for key in ("repo", "revision")):
        raise HubError(f"'{folder}' is not there, and its entry names no repository and revision, but {hub}")
    with file_errors_as(RegistryError):
        check_writable(folder.parent)
        _bring(folder, hub, beside)


def _bring(folder: Path, hub: Mapping[str, str], beside: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]) -> None:
    with filelock.FileLock(folder.parent / f".{folder.name}.lock"):
        if (folder / TENSORS).exists():  # another process was quicker
            return
        files = fetch(hub["repo"], hub["revision"], version=folder.name).files
        files = {**files, CARD: card(folder.parent.name, files[MANIFEST])}
        write_folder(folder, {**files, **beside(files)})


def _sizes(repo: str, manifest: Mapping[str, Any], folder: Path) -> dict[str, int]:
    """Return the bytes of the files that a manifest names; raises `HubError` for names and sizes that can't be."""
    sizes = {name: file["bytes"] for name, file in manifest["files"].items()}
    for name, size in sizes.items():
        if name not in (TENSORS, PEFT_CONFIG):
            raise HubError(f"{repo}: {MANIFEST} names a file '{name}', which is not part of an adapter")
        if not 0 < size < shutil.disk_usage(folder).free:
            raise HubError(f"{repo}: {name} is said to have {size:,} bytes, for which there is no room")
    return sizes


def _download(repo: str, name: str, revision: str, folder: Path, *, most: int, verified: bool) -> str:
    """Write a file of a repository into `folder`, `most` bytes at most, and return the commit that it is of.

    Read as a stream, since hf_hub_download takes whatever comes. What no digest will verify must come from the host
    that was asked; other files are often elsewhere, where the token isn't sent.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session

    url = hf_hub_url(repo, name, revision=revision)
    headers = {**build_hf_headers(library_name="adapterkit"), "Accept-Encoding": "identity"}
    with get_session().stream("GET", url, headers=headers, timeout=_SECONDS, follow_redirects=True) as response:
        steps = [*response.history, response]
        asked, came = steps[0].url, response.url
        safe = asked.host == came.host and came.scheme in (asked.scheme, "https")
        if not (safe or verified):
            raise HubError(f"'{repo}': {asked.host} sends on to {came.host} for {name}, which no digest verifies")
        if response.status_code != 200:
            raise HubError(_refused(repo, revision, response.status_code, response.headers, name))
        commit = next((s.headers["x-repo-commit"] for s in steps if "x-repo-commit" in s.headers), "")
        if not _COMMIT.fullmatch(commit):
            raise HubError(f"'{repo}': {asked.host} answers for {name} without a commit, so it is no Hub")
        _write(response, folder / name, most, f"'{repo}': {name}")
    return commit


def _write(response: Any, path: Path, most: int, what: str) -> None:
    """Write what comes to a file; raises `HubError` where it is more than `most` bytes."""
    stated = response.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > most:
        raise HubError(f"{what} has {int(stated):,} bytes, and {most:,} at most were expected")
    count = 0
    with path.open("wb") as file:
        for part in response.iter_raw():
            count += len(part)
            if count > most:
                raise HubError(f"{what} has more than the {most:,} bytes that were expected")
            file.write(part)


# ---- what goes wrong


@contextlib.contextmanager
def _plain_words(repo: str, revision: str | None) -> Iterator[None]:
    """Turn whatever the Hub's library raises into one line without a token, and without a traceback that holds one."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if constants.is_offline_mode():
        raise HubError(f"HF_HUB_OFFLINE is set, so '{repo}' on the Hub is out of reach; unset it")
    try:
        validate_repo_id(repo)
        yield
    except AdapterkitError as error:
        raise type(error)(masked(str(error))) from None
    except HFValidationError:
        raise HubError(f"'{masked(repo)}' is no repository's id; OWNER/NAME was expected") from None
    except HfHubHTTPError as error:
        status, headers = error.response.status_code, error.response.headers
        raise HubError(masked(_refused(repo, revision, status, headers, None, str(error)))) from None
    except OSError as error:
        raise HubError(masked(f"'{repo}': {error.strerror or error}")) from None
    except Exception as error:  # what it and the libraries under it raise is on no list
        why = f"{type(error).__name__}: {error}"
        raise HubError(masked(f"no answer of {constants.ENDPOINT} for '{repo}', or none of a Hub ({why})")) from None


def _refused(
    repo: str, revision: str | None, status: int, headers: Mapping[str, str], name: str | None, said: str = ""
) -> str:
    """Return what a status means, and what to do."""
    code = headers.get("x-error-code")
    if status == 401:
        who = "`hf auth login`, or HF_TOKEN, says who you are"
        return f"no repository '{repo}' that you may see (401): check the name; {who}"
    if status == 403:
        return f"your token doesn't allow this for '{repo}' (403): it needs the right to write, or access granted there"
    if code == "RevisionNotFound":
        return f"repository '{repo}' has no revision '{revision}' (404)"
    if code == "EntryNotFound":
        return f"repository '{repo}' has no {name} at '{revision}' (404), so it holds no adapter of adapterkit"
    if status == 404:
        return f"no repository '{repo}' (404): check the name; if it is private, log in with `hf auth login`"
    if status in (409, 412):
        return f"repository '{repo}' was changed by another at the same time ({status}): try again"
    if status == 429 or status >= 500:
        return f"the Hub can't answer for '{repo}' now ({status}): try again later"
    return f"the Hub refuses '{repo}' ({status}): {said or headers.get('x-error-message', '')}"


def masked(text: str) -> str:
    """Return a text in one line, at most 400 characters of it, with stars for what is a token or looks like one."""
    from huggingface_hub import get_token

    secrets = {get_token(), *(os.environ.get(name) for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"))}
    for secret in secrets:
        if secret and secret.strip():
            text = text.replace(secret.strip(), "***")
    text = re.sub(r"hf_\w{8,}|(?i:bearer)\s+[^\s'\"]+", "***", text)
    return " ".join(text.split())[:400]
