"""Changes of bytes, JSON, tensor files and folders that a hostile or damaged artifact may have."""

from __future__ import annotations

import copy
import json
import os
import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from adapterkit import Adapter, Base, Bias, Scale
from adapterkit.patches.encoded import Exact, Factors, Sign
from adapterkit.probe.model import Form, ProbeModel
from adapterkit.tasks import TextClassification
from tests.helpers import random_adapters as made

INDEX, MORE_MEMORY = "registry.json", 64 << 20
ODD: list[Any] = [None, True, False, -1, 0, 1, 3, 2**31, 2**63, 2**64, 1e308, -0.5, "", "x", "0", "a b", "x" * 5000]
ODD += [
    "../../x",
    "/etc/passwd",
    "a\nb\x1b[31m",
    "\udcff",
    "é",
    "os:system",
    "low-rank",
    "replace",
    "cpu",
    "nan",
    "inf",
]


ODD += [[], {}, [[]], [{}], [None], ["a", "a"], [1, 2], {"a": 1}, {"": ""}, ["x"] * 2000, "NAN", "INFINITY", "HUGE"]


LITERALS = {'"NAN"': "NaN", '"INFINITY"': "-Infinity", '"HUGE"': "1e999"}


Files = dict[str, Any]  # name -> bytes, or a function that makes what is no file


@dataclass
class Field:
    """What the changes are made to."""

    base: Base
    folder: Path  # everything lies in it
    adapters: list[dict[str, bytes]] = field(default_factory=list)

    @classmethod
    def make(cls, folder: Path, base: Base) -> Field:
        """Make adapters of all kinds of patches."""
        task = TextClassification(
            text_column_name=("text",),
            label_column_name="label",
            labels=("neg", "pos"),
            problem_type="single_label_classification",
        )
        some = [made.adapter(base, task, "lora", r=2), made.adapter(base, task, "head-only")]
        some.append(made.adapter(base, task, "layerwise", top=1))
        name, linear = next((n, m) for n, m in base.model.named_modules() if isinstance(m, torch.nn.Linear))
        patches = {name: Scale(torch.rand(linear.in_features), "inputs")}
        patches["pooler.dense"] = Bias(torch.rand(32))
        head = {n.removeprefix("base_model.model."): t for n, t in some[1].tensors.items()}
        about = {key: some[1].manifest[key] for key in ("task", "strategy", "untied", "metrics")}
        with some[1].attached(base) as model:
            some.append(Adapter.make(base, model, patches, head, about))
            for kind in (Exact, Sign, Factors):
                replaced = {module: patch.tensors() for module, patch in some[2].patches(base).items()}
                encoded = {m: kind.compress(t, base.model.get_submodule(m), rank=2) for m, t in replaced.items()}
                some.append(Adapter.make(base, model, encoded, head, about))
        form = Form((1, 3), "mean")
        model = ProbeModel(base, task, form)
        own = dict(model.named_parameters())
        head = {n: torch.rand_like(own[n]) for n in base.head_names(model)}
        some.append(Adapter.make(base, model, {}, head, {**about, "probe": form.plain()}))
        (folder / "outside").mkdir()
        (folder / "outside" / "mine.txt").write_text("mine")
        return cls(base, folder.resolve(), [one.files() for one in some])


# ---- changes of bytes


def flip(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.choice((0, 1, 7, 8, 9, draw.randrange(len(data)), draw.randrange(len(data)), len(data) - 1))]


def longer(data: bytes, draw: random.Random) -> bytes:
    return data + draw.randbytes(draw.choice((1, 8, 4096)))


def zeros(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + bytes(min(64, len(data) - at)) + data[at + 64 :]


def noise(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + draw.randbytes(draw.randrange(1, 30)) + data[at + draw.randrange(30) :]


BYTES = {"flip": flip, "cut": cut, "longer": longer, "zeros": zeros, "noise": noise}


# ---- changes of JSON


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every part of a JSON value."""
    for key, part in list(value.items()) if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(part, dict | list):
            yield from places(part, (*path, key))


def json_change(data: bytes, draw: random.Random) -> bytes:
    """Change one part of a JSON text, at any depth, or two."""
    value = json.loads(data)
    for _ in range(draw.choice((1, 1, 1, 2))):
        every = list(places(value))
        if not every:
            break
        # the top first, or the many tensors would be all that is changed
        some = [p for p in every if len(p) <= draw.choice((1, 2, 3, 9))] or every
        *path, key = draw.choice(some)
        inside = value
        for step in path:
            inside = inside[step]
        way = draw.choice(("odd", "odd", "odd", "gone", "more", "renamed", "alike", "twin"))
        if way == "gone":
            del inside[key]
        elif way == "odd":
            inside[key] = copy.deepcopy(draw.choice(ODD))
        elif way == "alike":  # another part's value
            *other, last = draw.choice(every)
            found = value
            try:
                for step in (*other, last):
                    found = found[step]
            except (KeyError, IndexError, TypeError):
                continue
            inside[key] = copy.deepcopy(found)
        elif isinstance(inside, list):
            inside.insert(0, copy.deepcopy(draw.choice(ODD) if way == "more" else inside[key]))
        elif way == "twin":
            inside[f"TWIN{key}"] = copy.deepcopy(inside[key])
        else:
            name = str(draw.choice([odd for odd in ODD if isinstance(odd, str)]))
            inside[name] = inside.pop(key) if way == "renamed" else copy.deepcopy(draw.choice(ODD))
    text = json.dumps(value).replace('"TWIN', '"')
    for ours, literal in LITERALS.items():
        text = text.replace(ours, literal)
    return text.encode("utf-8", "surrogatepass")


def deep(data: bytes, draw: random.Random) -> bytes:
    """Put brackets into brackets, closed or not, alone or as one of the parts."""
    depth = draw.choice((63, 65, 1000, 100_000))
    opened, closed = draw.choice((("[", "]"), ('{"a":', "}"), ("[{", "}]"), ('["[",', "]")))
    text = opened * depth + ("1" if opened[-1] in ":," else "") + (closed * depth if draw.random() < 0.7 else "")
    return text.encode() if draw.random() < 0.3 else data.rstrip()[:-1] + b',"deep":' + text.encode() + b"}"


def many(data: bytes, draw: random.Random) -> bytes:
    """Add a great many small values, or a long text whose characters take four bytes each in memory."""
    size = draw.choice((100_000, 1_000_000, 4_000_000, 6_000_000))
    small = draw.choice(("[],", "{},", "0,", '"",', '{"a":0},', "1.5,"))
    text = "[" + small * (size // len(small)) + "0]" if draw.random() < 0.7 else '"' + "x" * size + '\U0001f600"'
    return data.rstrip()[:-1] + b',"more":' + text.encode() + b"}"


def other_text(data: bytes, draw: random.Random) -> bytes:
    return draw.choice(
        (
            data.decode().encode("utf-16"),
            b"\xef\xbb\xbf" + data,
            data[:40] + b"\xff" + data[40:],
            b'{"a": "' + b'\\"' * 50_000,
            b"null",
            b"[]",
            b"{}",
            b" " * 5_000_000,
            b"1" * 100_000,
            b"NaN",
            b"import os; os.system('x')",
            b"cos\nsystem\n(S'true'\ntR.",
        )
    )


JSON = {"json": json_change, "deep": deep, "many": many, "text": other_text}


JSON_WEIGHTS = (60, 4, 1, 4)


# ---- changes of a tensor file


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(text: bytes, numbers: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text + numbers


def length_change(data: bytes, draw: random.Random) -> bytes:
    wrong = (0, 1, 2**63, 2**64 - 1, len(data), len(data) - 8, len(data) - 7, 100_000_000, draw.randrange(1000))
    return draw.choice(wrong).to_bytes(8, "little") + data[8:]


def header_text(data: bytes, draw: random.Random) -> bytes:
    header, numbers = header_of(data)
    change = draw.choices(list(JSON.values()), JSON_WEIGHTS)[0]
    return with_header(change(json.dumps(header).encode(), draw), numbers)


def header_place(data: bytes, draw: random.Random) -> bytes:
    """Change dtype, shape, offsets or name of one tensor."""
    header, numbers = header_of(data)
    names = [name for name in header if name != "__metadata__"]
    name = draw.choice(names)
    one = header[name]
    way = draw.choice(("shape", "dtype", "offsets", "name", "swap", "overlap", "hole", "gone", "again", "whole"))
    if way == "shape":
        shape = one["shape"]
        huge = ([2**32, 2**32], [2**63, 2], [2**62, 4], [0], [], [-1, *shape], shape[::-1], [*shape, 1], [1, *shape])
        one["shape"] = draw.choice(
            (*huge, [0, 2**62, 2**62], [1] * 70, [shape[0] + 1, *shape[1:]], [2.0], [True], ["2"])
        )
    elif way == "dtype":
        one["dtype"] = draw.choice(
            ("F16", "F64", "I32", "U8", "BOOL", "F8_E4M3", "C64", "f32", "O", "", "os:system", 4)
        )
    elif way == "offsets":
        a, b = one["data_offsets"]
        wrong = ([b, a], [a, b + 1], [a + 4, b], [a + 4, b + 4], [-a - 4, b], [0, 2**63], [2**64, 2**64 + b - a])
        one["data_offsets"] = draw.choice((*wrong, [a], [a, b, b], [a, None], "0", [float(a), float(b)], [a, b - 4]))
    elif way == "name":
        odd = [n for n in ODD if isinstance(n, str)]
        header[draw.choice((*odd, f"../{name}", f"/{name}", f"{name}..x", f"{name}\0", name.upper()))] = header.pop(
            name
        )
    elif way == "swap" and len(names) > 1:
        other = draw.choice(names)
        header[name]["data_offsets"], header[other]["data_offsets"] = (
            header[other]["data_offsets"],
            header[name]["data_offsets"],
        )
    elif way == "overlap":
        header["more"] = copy.deepcopy(one)
    elif way == "hole":
        numbers += bytes(16)
    elif way == "gone":
        del header[name]
    elif way == "again":
        text = json.dumps(header)[:-1] + f", {json.dumps(name)}: {json.dumps(one)}}}"
        return with_header(text.encode(), numbers)
    else:  # a tensor less, or more, in a file that is right
        tensors = safetensors.torch.load(data)
        if draw.random() < 0.5:
            tensors["more" if draw.random() < 0.5 else f"{name}.more"] = torch.zeros(2)
        else:
            tensors.pop(name)
        return safetensors.torch.save(tensors)
    return with_header(json.dumps(header).encode(), numbers)


def numbers_change(data: bytes, draw: random.Random) -> bytes:
    """Put other numbers in, other shapes or other dtypes, in a file that is right."""
    tensors = safetensors.torch.load(data)
    name = draw.choice(list(tensors))
    way = draw.choice(("nan", "inf", "-inf", "dtype", "shape", "value"))
    if way == "dtype":
        dtypes = (torch.int64, torch.uint8, torch.bool, torch.float16, torch.float64, torch.bfloat16, torch.complex64)
        tensors[name] = tensors[name].to(draw.choice(dtypes))
    elif way == "shape":
        t = tensors[name]
        tensors[name] = draw.choice(
            (t[:-1], t.flatten(), t[None], t.mT.contiguous() if t.ndim > 1 else t[1:], t[:0], t[0], torch.zeros(1))
        ).clone()
    else:
        flat = tensors[name].flatten()
        number = 3.5 if way == "value" else float(way)
        flat[draw.randrange(len(flat))] = number if flat.is_floating_point() else draw.randrange(256)
        tensors[name] = flat.view(tensors[name].shape)
    return safetensors.torch.save(tensors)


TENSOR_FILE = {"header text": header_text, "header": header_place, "length": length_change, "numbers": numbers_change}


# ---- changes of files and folders


def a_link(to: Path) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(to)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = os.getcwd()
        os.chdir(path.parent)  # the name of a socket is short
        try:
            one.bind(path.name)
        finally:
            os.chdir(here)


def a_sparse_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def not_a_file(field: Field, draw: random.Random, there: bytes | None) -> tuple[str, Any]:
    """Return what stands in a file's place: nothing, or something that can't be read as one."""
    away = field.folder / "outside" / "whole"
    away.write_bytes(there or b"")
    ways = {
        "link": a_link(away),
        "link to a device": a_link(Path("/dev/zero")),
        "link to itself": lambda path: path.symlink_to(path),
        "pipe": a_pipe,
        "folder": a_folder,
        "socket": a_socket,
        "sparse file": a_sparse_file,
        "missing": None,
    }
    way = draw.choice(list(ways))
    return way, ways[way]
