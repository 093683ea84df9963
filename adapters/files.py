"""Write files so that after a crash, or on a full disk, there is the old or the new, and never half of one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RegistryError

if TYPE_CHECKING:
    from torch import Tensor


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` as hex."""
    return hashlib.sha256(data).hexdigest()


def version_of(manifest: bytes) -> str:
    """Return the version that a manifest's bytes make: part of their SHA-256, since they hold the other digests."""
    return sha256(manifest)[:16]


def json_bytes(value: Any) -> bytes:
    """Return `value` as the JSON that adapterkit writes."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def write_file(path: Path, data: bytes) -> None:
    """Put `data` at `path`, in the place of what was there: written beside, fsynced, renamed, the folder fsynced.

    Raises `RegistryError` where the disk is full or may not be written.
    """
    with _plain_words(path):
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            os.fchmod(handle, 0o644)
            _write_all(handle, data)
            os.replace(beside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise
        _sync_folder(path.parent)


def write_folder(folder: Path, files: Mapping[str, bytes | Iterable[bytes | memoryview]]) -> None:
    """Make `folder` with these files, all or nothing; its parents are made too. One that is there makes way.

    A file may be given in parts, which are asked for when the files before it are written. Raises `RegistryError` where
    the disk is full or may not be written.
    """
    with _plain_words(folder):
        _make_parents(folder.parent)
        beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
        try:
            os.chmod(beside, 0o755)
            for name, data in files.items():
                _write_all(os.open(beside / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), data)
            _sync_folder(beside)
            if folder.exists():
                damaged = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".old"))
                os.rename(folder, damaged / "was")
                os.rename(beside, folder)
                shutil.rmtree(damaged, ignore_errors=True)
            else:
                os.rename(beside, folder)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        _sync_folder(folder.parent)


def remove(path: Path) -> None:
    """Delete a file or a folder for good; a folder is renamed first, so that no part of it is taken for the whole.

    Raises `RegistryError` where that can't be done.
    """
    with _plain_words(path):
        if path.is_dir() and not path.is_symlink():
            away = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name.strip('.')}.", suffix=".old"))
            os.rename(path, away / "was")
            _sync_folder(path.parent)
            shutil.rmtree(away)
        else:
            path.unlink()
        _sync_folder(path.parent)


def tensor_chunks(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """Yield a safetensors file in parts, so that no tensor of it is copied.

    The format: eight bytes of the header's length, a JSON header of dtypes, shapes and places, then the numbers.
    """
    import torch

    order = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header, end = {}, 0
    for name, tensor in order:
        size = tensor.numel() * tensor.element_size()
        kind = _DTYPES[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for _, tensor in order:
        flat = tensor.detach().cpu().contiguous().flatten()
        if flat.numel():
            yield flat.view(torch.uint8).numpy().data


_DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_DTYPES |= {"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}


def check_writable(folder: Path) -> None:
    """Raise `RegistryError` where nothing can be written in `folder`; it is made where it isn't there."""
    with _plain_words(folder):
        _make_parents(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()


def _make_parents(folder: Path) -> None:
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        _sync_folder(new.parent)


def _write_all(handle: int, data: bytes | Iterable[bytes | memoryview]) -> None:
    with open(handle, "wb") as file:
        expected = sum(file.write(part) for part in ([data] if isinstance(data, bytes) else data))
        file.flush()
        if os.fstat(file.fileno()).st_size != expected:
            raise OSError(errno.EIO, "the disk holds less than was written")
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _plain_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RegistryError(f"can't write '{path}': {error.strerror or error}") from error
