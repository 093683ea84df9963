"""What is read: regular files of a known size, strict JSON, tensors in place. What is written stays whole."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from adapterkit import Base
from adapterkit.errors import AdapterError
from adapterkit.io import atomic
from adapterkit.io import tensors as tensorfile
from adapterkit.io.untrusted import MOST_JSON, is_name, parse_json, read_file
from tests import fuzz
from tests.helpers import mutations
from tests.helpers.mutations import with_header


def test_reading_needs_no_torch() -> None:
    modules = "adapterkit.adapter.manifest, adapterkit.io.untrusted, adapterkit.io.tensors"
    code = f"import {modules}, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- files


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    mutations.a_socket(tmp_path / "socket")
    assert read_file(tmp_path / "file") == b"12345"
    for name, said in (("link", "it is a link"), ("pipe", "no regular file"), ("folder", "no regular file")):
        with pytest.raises(OSError, match=said):
            read_file(tmp_path / name)
    for path, number in ((tmp_path / "socket", errno.ENXIO), (tmp_path / "none", errno.ENOENT)):
        with pytest.raises(OSError) as caught:  # noqa: PT011, its number is looked at
            read_file(path)
        assert caught.value.errno == number
    with pytest.raises(OSError, match="no regular file"):
        read_file(Path("/dev/zero"))


def test_a_size_is_looked_at_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    mutations.a_sparse_file(path)  # a terabyte
    with pytest.raises(ValueError, match=f"1099511627776 bytes, expected {MOST_JSON} at most"):
        read_file(path)
    with pytest.raises(ValueError, match="1099511627776 bytes, expected 5"):
        read_file(path, size=5)
    with pytest.raises(ValueError, match=r"1099511627776 bytes, expected \d+ at most"):
        read_file(path, size=1 << 40)


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the machine die at the so manyth change that reaches the disk."""
    done = [0]

    def dies(real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*args: Any, **kwargs: Any) -> Any:
            done[0] += 1
            if done[0] >= step:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        return change

    for name in ("fsync", "rename", "replace", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, dies(getattr(os, name)))


@pytest.mark.parametrize("there", [False, True])
def test_at_every_moment_of_writing_a_folder_there_is_the_old_or_the_new(there: bool, tmp_path: Path) -> None:
    old, new = {"a": b"old a", "b": b"old b"}, {"a": b"new a, longer", "b": b"new b"}
    for step in range(1, 40):
        folder = tmp_path / str(step) / "folder"
        if there:
            atomic.write_folder(folder, old)
        with pytest.MonkeyPatch.context() as monkeypatch:
            killed_at(step, monkeypatch)
            try:
                atomic.write_folder(folder, {"a": new["a"], "b": iter([new["b"][:2], memoryview(new["b"][2:])])})
                break
            except KeyboardInterrupt:
                pass
        assert folder.exists() or not there
        for name in old if folder.exists() else ():
            assert (folder / name).read_bytes() in ((old[name], new[name]) if there else (new[name],))
    assert step > 4
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == new
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


# ---- JSON


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' is there twice"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b"[-Infinity]", "-Infinity is no number"),
        (b"[1e999]", "1e999 is no finite number"),
        (b"[" + b"1" * 21 + b"]", "has more than 64 bits"),
        (b"[" * 65 + b"]" * 65, "nested more than 64 deep"),
        (b"[" * 4_000_000, "more values than its size allows"),
        (b'{"a":' * 100_000, "nested more than 64 deep"),
        (b"[" * 10 + b"]" * 9, "brackets don't match"),
        (b'{"a": "[[[["', "brackets don't match"),
        (b"[" + b"[]," * 300_000 + b"0]", "more values than its size allows"),
        (b'"' * 4_000_000, "more values than its size allows"),
        (b'["\\ud800"]', "surrogates not allowed"),
        (b'["\xff"]', "invalid start byte"),
        ('{"a": 1}'.encode("utf-16"), "invalid start byte"),
        (b'{"a": "\xff"}]', "invalid start byte"),
        (b"", "Expecting value"),
        (b"{'a': 1}", "Expecting property name"),
    ],
)
def test_json_that_could_surprise_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_json_is_read_as_python_reads_it() -> None:
    value = {"[{": ["\\", '"', "]]", {"a": [1, -2.5, None, True, 2**63 - 1, "é", "\u20ac"]}], "deep": 1}
    for step in range(60):
        value["deep"] = [value["deep"]]
        text = json.dumps(value, ensure_ascii=bool(step % 2)).encode()
        assert parse_json(text) == json.loads(text)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a..b", "/a", "a/", "a/../b", "../a", "a b", "a\n", "ä", "-a", "a" * 513, 3]
)
def test_what_is_no_name_is_none(name: Any) -> None:
    assert not is_name(name)


# ---- tensors

KINDS = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"]


def test_a_file_is_what_the_safetensors_library_writes_and_reads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {f"{kind}.{i}": (torch.randn(3, i) * 9).to(getattr(torch, kind)) for kind in KINDS for i in (0, 1, 5)}
    tensors |= {"scalar": torch.tensor(2.0), "turned": torch.randn(4, 3).T}
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    ours = b"".join(bytes(part) for part in tensorfile.chunks(tensors, {"format": "pt"}))
    assert ours == safetensors.torch.save(whole, {"format": "pt"})
    found = tensorfile.tensors(bytearray(ours))
    assert found.keys() == whole.keys()
    for name, tensor in found.items():
        assert tensor.dtype == whole[name].dtype
        assert torch.equal(tensor, whole[name])


def test_what_could_not_be_read_again_is_not_written() -> None:
    for name, tensor in (("a", torch.zeros(1, dtype=torch.complex64)), ("../a", torch.zeros(1))):
        with pytest.raises(AdapterError, match="stored"):
            list(tensorfile.chunks({name: tensor}))


F32 = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    ("header", "size", "message"),
    [
        ({"a": F32}, 15, "its tensors end at byte"),
        ({"a": F32}, 17, "its tensors end at byte"),
        ({"a": F32, "b": F32}, 16, "'b' begins at byte"),
        ({"a": F32, "b": {**F32, "data_offsets": [8, 24]}}, 24, "'b' begins at byte"),
        ({"a": F32, "b": {**F32, "data_offsets": [20, 36]}}, 36, "'b' begins at byte"),
        ({"a": {**F32, "data_offsets": [16, 0]}}, 16, "but has -16 bytes"),
        ({"a": {**F32, "data_offsets": [0, 16, 16]}}, 16, "has the offsets"),
        ({"a": {**F32, "data_offsets": [0.0, 16.0]}}, 16, "has the offsets"),
        ({"a": {**F32, "shape": [2, 3]}}, 16, "but has 16 bytes"),
        ({"a": {**F32, "shape": [2, True, 2]}}, 16, "has the shape"),
        ({"a": {**F32, "shape": [-2, -2]}}, 16, "has the shape"),
        ({"a": {**F32, "shape": [2**62, 4]}}, 16, "has the shape"),  # 2**66 bytes, 0 where 64 bits overflow
        ({"a": {**F32, "shape": [0, 2**62], "data_offsets": [0, 0]}}, 0, "has the shape"),
        ({"a": {**F32, "shape": [1] * 9}}, 16, "has the shape"),
        ({"a": {**F32, "dtype": "F64"}}, 16, "but has 16 bytes"),
        ({"a": {**F32, "dtype": "BOOL"}}, 16, "is of dtype 'BOOL'; known: I64"),
        ({"a": {**F32, "dtype": ["F32"]}}, 16, "is of dtype"),
        ({"a": {**F32, "more": 1}}, 16, "has not just a dtype"),
        ({"../a": F32}, 16, "is no tensor's name"),
        ({"/etc/passwd": F32}, 16, "is no tensor's name"),
        ({"a": F32, "__metadata__": {"format": 3}}, 16, "is not texts by name"),
        ([], 0, "is no JSON object"),
    ],
)
def test_tensors_out_of_their_places_are_refused(header: Any, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tensorfile.tensors(bytearray(with_header(json.dumps(header).encode(), bytes(size))))


@pytest.mark.parametrize("length", [0, 1, 2**63, 2**64 - 1, MOST_JSON + 1])
def test_a_header_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=r"header|Expecting"):
        tensorfile.tensors(bytearray(length.to_bytes(8, "little") + bytes(5 << 20)))


@pytest.mark.parametrize("kind", KINDS[:4])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_number_that_is_not_finite_is_found(kind: str, value: float) -> None:
    tensor = torch.randn(1000).to(getattr(torch, kind))
    assert tensorfile.is_finite(tensor)
    tensor[577] = value
    assert not tensorfile.is_finite(tensor)


# ---- all of it, at random


@pytest.mark.slow
def test_nothing_that_is_changed_at_random_is_taken_for_right(tiny_base: Base) -> None:
    with fuzz.in_memory() as folder:
        found = fuzz.fuzz(fuzz.Field.make(folder, tiny_base), 1500, seed=1)
    outcomes = {outcome.partition(":")[0] for _, outcome in found}
    assert outcomes == {"refused", "loaded, patches", "loaded, attached", "loaded, then refused"}
    assert len({kind for kind, _ in found}) > 60
