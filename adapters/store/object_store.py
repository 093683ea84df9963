"""Files below an fsspec URL, such as s3://bucket/adapters: bounded reads, writes on a condition, bounded retries."""

from __future__ import annotations

import contextlib
import functools
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import AdapterkitError, OptionError, RegistryError

R = TypeVar("R")
ATTEMPTS = 6
FIRST_DELAY = 0.2
"""Seconds before the second attempt; each later delay is twice as long, and all vary at random by half."""
_FINAL = (FileNotFoundError, PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError, ImportError)
_EXTRAS = {"s3": "pip install 'adapterkit[remote]'", "gs": "pip install gcsfs", "gcs": "pip install gcsfs"}


class ChangedError(Exception):
    """A file is no longer what a write expected it to be."""


def is_url(path: object) -> bool:
    """Return whether a path is a URL: letters and ://."""
    return isinstance(path, str) and re.match(r"[a-z][a-z0-9+.-]*://", path) is not None


@dataclass
class ObjectStore:
    """The files below a URL. Credentials come from the standard chain of the service, and never from the URL."""

    url: str

    def __post_init__(self) -> None:
        if "@" in self.url or "?" in self.url:
            raise OptionError(
                "a registry's URL has no credentials and no query; they come from the service's own settings, such as "
                "AWS_PROFILE"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url}  # another process connects by itself

    @functools.cached_property
    def _files(self) -> Any:
        """The file system. Raises `OptionError` where its package is not installed."""
        import fsspec

        protocol = self.url.partition("://")[0]
        more: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if protocol in ("s3", "s3a"):  # attempts are counted here, and not in three layers
            more["config_kwargs"] = {
                "retries": {"total_max_attempts": 1},
                "connect_timeout": 10,
                "read_timeout": 30,
            }
        try:
            kind = fsspec.get_filesystem_class(protocol)
        except ValueError:
            raise OptionError(f"'{self.url}': there is no store of the protocol {protocol}://") from None
        except ImportError as error:
            hint = f": {_EXTRAS[protocol]}" if protocol in _EXTRAS else f" ({error})"
            raise OptionError(f"'{self.url}' requires a package that is not installed{hint}") from None
        files = kind(**(more if protocol != "memory" else {}))
        if "retries" in dir(files):
            files.retries = 1
        return files

    def _path(self, name: str) -> str:
        return f"{self._files._strip_protocol(self.url).rstrip('/')}/{name}"

    @property
    def conditional(self) -> bool:
        """Whether a write can depend on the state of the file."""
        return hasattr(self._files, "call_s3")

    def check(self) -> None:
        """Raise `RegistryError` where there is no such bucket, and the request that shows it is allowed."""
        if not self.conditional:
            return
        bucket, _, _ = self._files.split_path(self._path(""))
        try:
            self._again("", lambda: self._files.call_s3("head_bucket", Bucket=bucket))
        except FileNotFoundError:
            raise RegistryError(f"there is no bucket '{bucket}', of {self.url}") from None
        except RegistryError:  # a policy may forbid this request, and allow those that follow
            return

    # ---- reading

    def read(self, name: str, most: int) -> tuple[bytes, str]:
        """Return a file's bytes and their tag, for `replace`. Raises `FileNotFoundError`, `RegistryError`."""
        data, tag = self._again(name, lambda: self._read(name, most))
        if len(data) > most:
            raise RegistryError(f"{self.url}/{name} has more than the {most:,} bytes that were expected")
        return data, tag

    def _read(self, name: str, most: int) -> tuple[bytes, str]:
        if not self.conditional:
            return self._files.cat_file(self._path(name), start=0, end=most + 1), ""
        import fsspec.asyn

        files = self._files
        bucket, key, _ = files.split_path(self._path(name))

        async def get() -> tuple[bytes, str]:
            response = await files._call_s3("get_object", Bucket=bucket, Key=key)
            async with response["Body"] as body:
                if response["ContentLength"] > most:
                    return b"\0" * (most + 1), ""
                return await body.read(), response["ETag"]

        data, tag = fsspec.asyn.sync(files.loop, get)
        return data, tag

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the sizes of the files below a prefix, by their names from the prefix on."""
        start = len(self._path(prefix)) + 1
        listing = self._again(prefix, lambda: self._files.find(self._path(prefix), detail=True))
        return {path[start:]: int(about["size"]) for path, about in listing.items() if path[start:]}

    # ---- writing

    def create(self, name: str, data: bytes) -> bool:
        """Write a new file; return False where there is one, which stays as it is. Raises `RegistryError`."""
        try:
            self._write(name, data, IfNoneMatch="*")
        except ChangedError:
            return False
        return True

    def replace(self, name: str, data: bytes, tag: str | None) -> None:
        """Replace a file that still has this tag, or create it where `tag` is None.

        Raises `ChangedError` where the file is another, if the store has conditional writes, and `RegistryError`.
        """
        self._write(name, data, **({"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}))

    def _write(self, name: str, data: bytes, **condition: str) -> None:
        path = self._path(name)
        if not self.conditional:
            if "IfNoneMatch" in condition and self._again(name, lambda: self._files.exists(path)):
                raise ChangedError(name)
            self._again(name, lambda: self._files.pipe_file(path, data))
            return
        bucket, key, _ = self._files.split_path(path)

        def put() -> None:
            self._files.call_s3("put_object", Bucket=bucket, Key=key, Body=data, **condition)

        try:
            self._again(name, put)
        except ChangedError:
            # where an attempt before this one was written and its answer lost, the file is ours
            if self._again(name, lambda: self._is(name, data)):
                return
            raise

    def _is(self, name: str, data: bytes) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return self._read(name, len(data))[0] == data
        return False

    # ---- errors

    def _again(self, name: str, call: Callable[[], R]) -> R:
        """Return what `call` returns; one that the service or the network fails is tried again, `ATTEMPTS` times."""
        for delay in (*_delays(), None):
            try:
                return call()
            except AdapterkitError:
                raise
            except Exception as error:  # of any service's client
                if _changed(error):
                    raise ChangedError(name) from None
                if isinstance(error, FileNotFoundError):
                    raise
                if delay is None or isinstance(error, _FINAL) or _is_final(error):
                    raise RegistryError(f"{self.url}/{name}: {_reason(error)}") from None
            time.sleep(delay)
        raise AssertionError


def _delays() -> Iterator[float]:
    for attempt in range(ATTEMPTS - 1):
        yield FIRST_DELAY * 2**attempt * random.uniform(0.5, 1.5)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _response(error: BaseException) -> tuple[str, int]:
    """Return the code and the HTTP status of a service's error, or ("", 0)."""
    for each in _causes(error):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return str(response.get("Error", {}).get("Code", "")), int(status)
    return "", 0


def _changed(error: Exception) -> bool:
    code, status = _response(error)
    return status in (409, 412) or code in ("PreconditionFailed", "ConditionalRequestConflict")


def _is_final(error: Exception) -> bool:
    """Return whether another attempt would fail as well: a refusal, or no credentials."""
    _, status = _response(error)
    names = {type(each).__name__ for each in _causes(error)}
    return (400 <= status < 500 and status not in (408, 429)) or bool(
        names & {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "ParamValidationError"}
    )


def _reason(error: Exception) -> str:
    """Return why a call failed, in words of ours: a service's message may hold a signed URL or a key."""
    code, status = _response(error)
    names = [type(each).__name__ for each in _causes(error)]
    if "NoCredentialsError" in names or "PartialCredentialsError" in names:
        return "no credentials; set those of the service, such as AWS_PROFILE or AWS_ACCESS_KEY_ID"
    if isinstance(error, PermissionError) or status in (401, 403):
        return f"the store refuses access ({code or 'permission denied'})"
    if status or code:
        return f"the store answers {status} {code} after {ATTEMPTS} attempts"
    return f"the store can't be reached ({names[-1]} after {ATTEMPTS} attempts)"
