"""The Hub: push an adapter's files to a repository, and fetch the files in its manifest, each verified."""

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

from ..adapter.manifest import MANIFEST, PEFT_CONFIG, TENSORS, parse_manifest
from ..adapter.model_card import CARD, card
from ..adapter.stored import read_files
from ..errors import AdapterError, AdapterkitError, HubError, RegistryError, file_errors_as
from ..io.atomic import check_writable, version_of, write_folder
from ..io.tensors import places

MOST = 4 << 20
"""The largest size of adapter.json in bytes; a longer one isn't read to its end."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
More = Callable[[Mapping[str, bytes]], Mapping[str, bytes]]
"""Returns further files for the files of an adapter."""
_SECONDS = 20.0  # without a byte


@dataclass(frozen=True)
class Pushed:
    """The place of an adapter on the Hub."""

    url: str
    commit: str
    remark: str = ""


@dataclass(frozen=True)
class Fetched:
    """An adapter from the Hub: its files, its manifest, and their commit."""

    files: dict[str, bytes]
    manifest: dict[str, Any]
    commit: str


def push(
    files: Mapping[str, bytes], repo: str, *, private: bool = False, revision: str | None = None, message: str
) -> Pushed:
    """Push files to a repository in one commit; the repository and a branch `revision` are created if missing.

    Raises `HubError`.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    with _plain_words(repo, revision):
        api = HfApi(library_name="adapterkit")
        api.create_repo(repo, private=private or None, exist_ok=True)
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        operations = [CommitOperationAdd(name, data) for name, data in files.items()]
        commit = api.create_commit(repo, operations, commit_message=message, revision=revision)
        return Pushed(f"{api.endpoint}/{repo}", str(commit.oid))


def fetch(repo: str, revision: str | None = None, *, version: str | None = None, lazy: bool = False) -> Fetched:
    """Fetch an adapter: its manifest and then, unless `lazy`, the files that it lists, of the same commit.

    Nothing else in the repository is read. Sizes and digests are checked by the manifest, and the manifest by `version`
    if that is set. Raises `HubError`.
    """
    with tempfile.TemporaryDirectory(prefix="adapterkit-") as place, _plain_words(repo, revision):
        folder = Path(place)
        try:
            commit = _fetch_file(repo, MANIFEST, revision or "main", folder, most=MOST, verified=version is not None)
            data = (folder / MANIFEST).read_bytes()
            actual = version_of(data)
            if version not in (None, actual):
                raise HubError(f"'{repo}' holds version {actual} at {commit[:12]}, and {version} was expected")
            manifest = parse_manifest(data)
            if not lazy:
                for name, size in _sizes(repo, manifest, folder).items():
                    _fetch_file(repo, name, commit, folder, most=size, verified=True)
                manifest = verified_manifest(folder, actual)
        except AdapterkitError as error:
            raise HubError(str(error).replace(f"{folder}/", f"{repo}: ")) from None
        except ValueError as error:
            raise HubError(f"{repo}: {MANIFEST} is not an adapter's manifest: {error}") from None
        return Fetched({file.name: file.read_bytes() for file in folder.iterdir()}, manifest, commit)


def verified_manifest(folder: Path, version: str) -> dict[str, Any]:
    """Return the manifest of an adapter, its files verified; without torch, the tensors by digest and header alone.

    Raises `AdapterError`.
    """
    try:
        from ..adapter.adapter import Adapter
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        manifest, contents = read_files(folder, version)
        try:
            places(contents[TENSORS])
        except ValueError as wrong:
            raise AdapterError(f"{folder / TENSORS}: not a safetensors file: {wrong}") from wrong
        return manifest
    return Adapter.load(folder, version=version).manifest


def download(folder: Path, hub: Any, more: More) -> None:
    """Download the version that an entry names by `repo` and `revision` into its folder, with the files of `more`.

    Raises `HubError`, and `RegistryError` where it can't be written.
    """
    if not isinstance(hub, dict) or not all(isinstance(hub.get(key), str) for key in ("repo", "revision")):
        raise HubError(f"'{folder}' is missing, and its entry names no repository and revision, but {hub}")
    with file_errors_as(RegistryError):
        check_writable(folder.parent)
        _download_once(folder, hub, more)


def _download_once(
    folder: Path, hub: Mapping[str, str], more: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]
) -> None:
    with filelock.FileLock(folder.parent / f".{folder.name}.lock"):
        if (folder / TENSORS).exists():  # another process was quicker
            return
        files = fetch(hub["repo"], hub["revision"], version=folder.name).files
        files = {**files, CARD: card(folder.parent.name, files[MANIFEST])}
        write_folder(folder, {**files, **more(files)})


def _sizes(repo: str, manifest: Mapping[str, Any], folder: Path) -> dict[str, int]:
    """Return the sizes of the files in a manifest; raises `HubError` for an unexpected name or an impossible size."""
    sizes = {name: file["bytes"] for name, file in manifest["files"].items()}
    for name, size in sizes.items():
        if name not in (TENSORS, PEFT_CONFIG):
            raise HubError(f"{repo}: {MANIFEST} names a file '{name}', which is not part of an adapter")
        if not 0 < size < shutil.disk_usage(folder).free:
            raise HubError(f"{repo}: {name} has {size:,} bytes by its manifest, for which there is no room")
    return sizes


def _fetch_file(repo: str, name: str, revision: str, folder: Path, *, most: int, verified: bool) -> str:
    """Write a file of a repository into `folder`, `most` bytes at most, and return its commit.

    It is streamed, since hf_hub_download accepts any size. A file that no digest verifies must come from the host of
    the request; others may be on another host, which doesn't get the token.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session

    url = hf_hub_url(repo, name, revision=revision)
    headers = {**build_hf_headers(library_name="adapterkit"), "Accept-Encoding": "identity"}
    with get_session().stream("GET", url, headers=headers, timeout=_SECONDS, follow_redirects=True) as response:
        steps = [*response.history, response]
        first, last = steps[0].url, response.url
        safe = first.host == last.host and last.scheme in (first.scheme, "https")
        if not (safe or verified):
            raise HubError(f"'{repo}': {first.host} redirects to {last.host} for {name}, which no digest verifies")
        if response.status_code != 200:
            raise HubError(_refused(repo, revision, response.status_code, response.headers, name))
        commit = next((s.headers["x-repo-commit"] for s in steps if "x-repo-commit" in s.headers), "")
        if not _COMMIT.fullmatch(commit):
            raise HubError(f"'{repo}': {first.host} answers for {name} without a commit, so it is no Hub")
        _write(response, folder / name, most, f"'{repo}': {name}")
    return commit


def _write(response: Any, path: Path, most: int, what: str) -> None:
    """Write a response to a file; raises `HubError` where it has more than `most` bytes."""
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


# ---- errors


@contextlib.contextmanager
def _plain_words(repo: str, revision: str | None) -> Iterator[None]:
    """Turn any error of the Hub's library into one line without a token, and without a traceback that holds one."""
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
    except Exception as error:  # the library and its dependencies raise undocumented errors, too
        why = f"{type(error).__name__}: {error}"
        raise HubError(masked(f"no answer of {constants.ENDPOINT} for '{repo}', or none of a Hub ({why})")) from None


def _refused(
    repo: str, revision: str | None, status: int, headers: Mapping[str, str], name: str | None, detail: str = ""
) -> str:
    """Return the meaning of a status, and what to do."""
    code = headers.get("x-error-code")
    if status == 401:
        who = "log in with `hf auth login`, or set HF_TOKEN"
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
    return f"the Hub refuses '{repo}' ({status}): {detail or headers.get('x-error-message', '')}"


def masked(text: str) -> str:
    """Return a text in one line, at most 400 characters of it, with stars for what is a token or looks like one."""
    from huggingface_hub import get_token

    secrets = {get_token(), *(os.environ.get(name) for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"))}
    for secret in secrets:
        if secret and secret.strip():
            text = text.replace(secret.strip(), "***")
    text = re.sub(r"hf_\w{8,}|(?i:bearer)\s+[^\s'\"]+", "***", text)
    return " ".join(text.split())[:400]
