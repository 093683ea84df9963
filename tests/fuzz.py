"""Change adapters and registries in every way that harms, and see that each is refused in one line or read right.

    python -m tests.fuzz --cases 200000 --seed 0

An adapter that loads must hold, to the bit, what the safetensors library reads from the same file, and is put on its
base. A change is made with the digests as they were, and with the digests made right again, so that the checks behind
them are reached.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import shutil
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import safetensors.torch
import torch

from adapterkit import Adapter, AdapterkitError, Base, Bias, Registry, Scale
from adapterkit.adapter.manifest import MANIFEST, PEFT_CONFIG, TENSORS
from adapterkit.io.atomic import json_bytes, sha256, version_of
from adapterkit.patches.encoded import Exact, Factors, Sign
from adapterkit.probe.model import Form, ProbeModel
from adapterkit.store.version_files import entry_of
from adapterkit.tasks import TextClassification
from adapterkit.testing import tiny
from tests import made
from tests.audited import changes_outside, heard

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


class Wrong(AssertionError):
    """Something happened that must not happen."""


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


# ---- one case

KINDS = {"bytes": 20, "manifest": 30, "header text": 6, "header": 18, "length": 3, "numbers": 10, "file": 3}
KINDS |= {"swapped": 3, "linked": 1, "index": 4, "entry": 2}  # so often each


@dataclass
class Case:
    """One changed adapter, or registry, in a store."""

    kind: str
    files: Files
    index: Any = None  # registry.json, bytes or a function; None: as it should be
    entry: Any = None  # entry.json
    linked: str = ""  # "version" or "name": that folder is a link
    version: str | None = None  # the folder's name, where it isn't the manifest's digest


def repaired(files: Files) -> None:
    """State the digests of the files as they are now."""
    try:
        manifest = json.loads(files[MANIFEST])
        for name, stated in manifest["files"].items():
            if isinstance(files.get(name), bytes) and isinstance(stated, dict):
                stated |= {"sha256": sha256(files[name]), "bytes": len(files[name])}
        files[MANIFEST] = json_bytes(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return  # nothing is left to be right


def drawn(field: Field, draw: random.Random) -> Case:
    """Return a case of a kind."""
    original = draw.choice(field.adapters)
    files: Files = dict(original)
    repair = draw.random() < 0.6
    case = Case("", files)
    name = draw.choice((MANIFEST, TENSORS, TENSORS, PEFT_CONFIG if PEFT_CONFIG in files else TENSORS))
    kind = draw.choices(list(KINDS), list(KINDS.values()))[0]
    if kind == "bytes":
        how = draw.choice(list(BYTES))
        files[name], kind = BYTES[how](files[name], draw), f"{how} in {name}"
    elif kind == "manifest":
        how = draw.choices(list(JSON), JSON_WEIGHTS)[0]
        if repair and draw.random() < 0.5:
            repaired(files)
        files[MANIFEST], kind = JSON[how](files[MANIFEST], draw), f"manifest: {how}"
    elif kind in TENSOR_FILE:
        files[TENSORS] = TENSOR_FILE[kind](files[TENSORS], draw)
    elif kind == "file":
        way, files[name] = not_a_file(field, draw, files[name])
        kind = f"{name} is {way}"
    elif kind == "swapped":
        other = draw.choice(field.adapters)
        one, two = draw.choice(((TENSORS, TENSORS), (MANIFEST, TENSORS), (TENSORS, MANIFEST), (MANIFEST, MANIFEST)))
        files[one] = other[two]
    elif kind == "linked":
        case.linked = draw.choice(("version", "name"))
        kind = f"{case.linked}'s folder is a link"
    elif kind == "entry":
        how = draw.choice((*BYTES, "file", "json"))
        entry = json_bytes({"number": 1, **entry_of(json.loads(files[MANIFEST]), 1)})
        if how == "file":
            case.entry = not_a_file(field, draw, entry)[1] or b""
        else:
            case.entry = BYTES[how](entry, draw) if how in BYTES else json_change(entry, draw)
    else:
        case.index = draw.choice((*BYTES, "file", "json", "json", "json", "json", "deep", "many", "text", "away"))
    if repair and kind not in ("linked", "index", "entry"):
        if not kind.startswith("manifest"):
            repaired(files)
        kind += ", digests repaired"
    elif kind not in ("index", "entry") and not case.linked:
        case.version = version_of(original[MANIFEST])
    case.kind = kind
    return case


def put(case: Case, field: Field, root: Path, draw: random.Random) -> str:
    """Write a case's store and registry; return the version that the registry names."""
    whole = case.files.get(MANIFEST)
    version = case.version or version_of(whole if isinstance(whole, bytes) else b"")
    folder = root / "store" / "a" / version
    if case.linked:
        away = field.folder / "outside" / "linked"
        shutil.rmtree(away, ignore_errors=True)
        target = away / (version if case.linked == "name" else "")
        target.mkdir(parents=True)
        place = folder if case.linked == "version" else folder.parent
        place.parent.mkdir(parents=True)
        place.symlink_to(away)
    else:
        folder.mkdir(parents=True)
    for name, content in case.files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        elif content is not None:
            content(folder / name)
    if isinstance(case.entry, bytes):
        (folder / "entry.json").write_bytes(case.entry)
    elif case.entry is not None:
        case.entry(folder / "entry.json")
    entry = {"number": 1, "task": "t", "strategy": "s", "base": {}, "bytes": 1, "metrics": {}}
    index = json_bytes({"schema_version": 1, "adapters": {"a": {"current": version, "versions": {version: entry}}}})
    how = case.index
    if how == "file":
        content = not_a_file(field, draw, index)[1]
        if content is not None:
            content(root / INDEX)
        return version
    if how == "away":  # versions and names that lead out of the store
        wrong = draw.choice(("../../outside", "/etc", "..", ".", f"{version}/..", "a/../../..", f"{version}\0"))
        text = index.decode().replace('"a":' if draw.random() < 0.5 else version, json.dumps(wrong).strip('"'))
        index = text.encode()
    elif how is not None:
        index = (BYTES | JSON)[how](index, draw)
    (root / INDEX).write_bytes(index)
    return version


@contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Raise `Wrong` where what is inside computes for so long, or waits for ten times as long."""

    def late(*_: Any) -> None:
        raise Wrong("it takes too long")

    timers = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}
    before = {number: signal.signal(number, late) for number in timers.values()}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)
    try:
        yield
    finally:
        for timer, number in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def one_line(error: AdapterkitError) -> str:
    """Return the class of an error that is said as it should be."""
    if not str(error).isprintable() or not 10 < len(str(error)) < 4000:
        raise Wrong(f"an error that isn't one line: {str(error)[:300]!r}")
    return f"refused: {type(error).__name__}"


def read(case: Case, field: Field, root: Path, version: str, attach: bool) -> str:
    """Load a case through the registry or by its folder, and go on with what loads; return what came of it."""
    registry = Registry(root / INDEX)
    folder = root / "store" / "a" / version
    try:
        through = case.version is not None or case.index is not None or case.linked or case.entry is not None
        if case.index is not None or case.entry is not None:
            registry.adapters()
            registry.resolve("a")
        adapter = registry.load("a") if through else Adapter.load(folder)
    except AdapterkitError as error:
        told = one_line(error)
        if case.index is not None or case.entry is not None:
            told += rebuilt(registry)
        return told
    told = rebuilt(registry) if case.index is not None or case.entry is not None else ""
    reference = safetensors.torch.load((folder / TENSORS).read_bytes())
    if adapter.tensors.keys() != reference.keys() or not all(
        a.dtype == reference[n].dtype and torch.equal(a, reference[n]) and bool(torch.isfinite(a).all())
        for n, a in adapter.tensors.items()
    ):
        raise Wrong("it loads otherwise than safetensors reads it")
    if case.version is not None and any(case.files[name] != data for name, data in original(case, field).items()):
        raise Wrong("the digests didn't tell that it was changed")
    try:
        adapter.patches(field.base)
        if not attach:
            return "loaded, patches" + told
        with adapter.attached(field.base):
            return "loaded, attached" + told
    except AdapterkitError as error:
        return f"loaded, then {one_line(error)}" + told


def original(case: Case, field: Field) -> dict[str, bytes]:
    return next(one for one in field.adapters if version_of(one[MANIFEST]) == case.version)


def rebuilt(registry: Registry) -> str:
    """Make the index again; what it makes must be one, and lead to nothing that isn't right."""
    try:
        index, left_out = registry.rebuild()
        if registry.adapters() != index:
            raise Wrong("the index that was made again isn't the one that is read")
        for name in index:
            try:
                registry.load(name)
            except AdapterkitError as error:
                one_line(error)
        return f", rebuilt with {len(index)}, {len(left_out)} left out"
    except AdapterkitError as error:
        return f", rebuild {one_line(error)}"


def peak(*, again: bool = False) -> int:
    """Return the most bytes of memory that this process has had since it was asked to begin again."""
    if again:
        Path("/proc/self/clear_refs").write_text("5")
    stated = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(stated.split()[1]) * 1024


def fuzz(field: Field, cases: int, seed: int) -> Counter[tuple[str, str]]:
    """Try so many cases; return how often which change had which outcome. Raises `Wrong` that says which case."""
    found: Counter[tuple[str, str]] = Counter()
    names = {name: id(p) for name, p in field.base.model.named_parameters()}
    before = {name: p.detach().clone() for name, p in field.base.model.named_parameters()}
    mine = sorted((field.folder / "outside").rglob("*.txt"))
    root = field.folder / "case"
    wrong = list[str]()
    for number in range(-20, cases):  # the first to warm up
        draw = random.Random(f"{seed} {number}")
        case = drawn(field, draw)
        root.mkdir()
        version = put(case, field, root, draw)
        memory = peak(again=True)
        try:
            with heard() as events, in_time(1):
                outcome = read(
                    case,
                    field,
                    root,
                    version,
                    attach=draw.random() < (0.5 if case.kind.startswith("manifest") else 0.1),
                )
            if outside := changes_outside(events, str(root)):
                raise Wrong(f"outside the store: {outside[:3]}")
            if number >= 0 and (more := peak() - memory) > MORE_MEMORY:
                raise Wrong(f"{more >> 20} MB of memory more than before")
        except Exception as error:
            wrong.append(f"case {number} of seed {seed}, {case.kind}: {type(error).__name__}: {error}")
            if len(wrong) == 20:
                break
            outcome = "WRONG"
        if number >= 0:
            found[case.kind, outcome.partition(", rebuil")[0]] += 1
        shutil.rmtree(root)
    assert sorted((field.folder / "outside").rglob("*.txt")) == mine
    for name, p in field.base.model.named_parameters():
        if names[name] != id(p) or not torch.equal(p, before[name]):
            wrong.append(f"the base's '{name}' is not as it was")
    if wrong:
        raise Wrong("\n".join(wrong))
    return found


@contextmanager
def in_memory() -> Iterator[Path]:
    """Yield a new folder in memory where there is such a place: on a disk it takes several times as long."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    with in_memory() as folder:
        base = Base.load(str(tiny.make("bert", folder / "base")))
        found = fuzz(Field.make(folder, base), args.cases, args.seed)
    kinds = sorted({kind for kind, _ in found})
    for kind in kinds:
        outcomes = ", ".join(f"{outcome} {n}" for (k, outcome), n in sorted(found.items()) if k == kind)
        print(f"{kind}: {outcomes}")
    total: Counter[str] = Counter()
    for (_, outcome), n in found.items():
        total[outcome.partition(":")[0]] += n
    print(f"{sum(total.values())} cases of seed {args.seed} in {time.monotonic() - began:.0f} s: {dict(total)}")


if __name__ == "__main__":
    main()
