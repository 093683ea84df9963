"""registry.json as it is read and written: a line of JSON for each adapter, so that one is changed alone."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RegistryError
from ..io.atomic import json_bytes
from ..io.untrusted import parse_json, read_file
from .schema import SCHEMA, check_adapter

MOST = 256 << 20  # bytes of registry.json: 400,000 versions
_LONG = re.compile(rb'"[^"]{65536}')
_SHORT = 1 << 16  # bytes of one adapter: a hundred versions
_END = b"\n}}\n"
_AGAIN = "`adapt registry rebuild` makes it again"


@dataclass(eq=False)
class Index(Mapping[str, dict[str, Any]]):
    """What a registry.json lists: name -> {"current": version, "versions": {version: entry}, "tags": {tag: version}}.

    An adapter's text is parsed and checked when it is asked for, and kept as it is where it isn't set.
    """

    path: Path
    head: bytes  # the first line: what stands beside the adapters, known or not
    lines: dict[str, bytes]  # name -> "name": JSON
    parsed: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)  # by `kept`

    @classmethod
    def read(cls, path: Path, *, damaged: bool = False) -> Index:
        """Read a registry.json; where there is no file, nothing is registered.

        Raises `RegistryError`; with `damaged`, content that is no registry of ours reads as an empty one.
        """
        try:
            data = bytes(read_file(path, most=MOST))
            found = _split(data, path, damaged) or _parsed(data, path, damaged)
        except FileNotFoundError:
            return cls.new(path)
        except OSError as error:
            raise RegistryError(f"can't read '{path}': {error.strerror or error}") from error
        except (ValueError, TypeError) as error:
            if damaged:
                return cls.new(path)
            if isinstance(error, TypeError):
                raise RegistryError(f"'{path}' is JSON, but no registry: it has no object 'adapters'") from None
            # without its frames, which hold the text while it is made again
            raise RegistryError(f"'{path}' is not JSON ({error}); {_AGAIN}") from error.with_traceback(None)
        return cls(path, *found)

    @classmethod
    def new(cls, path: Path) -> Index:
        """Return an index that lists nothing."""
        return cls(path, _head({}, _dotted(SCHEMA)), {})

    def __getitem__(self, name: str) -> dict[str, Any]:
        try:
            known = _value(self.lines[name][len(name) + 4 :])
            check_adapter(name, known)
        except ValueError as error:
            raise RegistryError(f"'{self.path}': '{name}' is no entry: {error}; {_AGAIN}") from None
        return dict(known)

    def kept(self, name: str) -> dict[str, Any]:
        """Return what is known of an adapter, parsed once; not to be changed."""
        if name not in self.parsed:
            self.parsed[name] = self[name]
        return self.parsed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def __contains__(self, name: object) -> bool:
        return name in self.lines  # a Mapping's own would parse it

    def readable(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what is known of each adapter, damaged ones left out."""
        for name in self:
            with contextlib.suppress(RegistryError):
                yield name, self[name]

    def put(self, name: str, known: Mapping[str, Any] | None) -> None:
        """Set what is known of an adapter, or, where that is nothing, list it no longer."""
        if known is None:
            self.lines.pop(name, None)
        else:
            self.lines[name] = _line(name, known)

    def to_bytes(self) -> bytes:
        """Return the file: other keys as they were, a minor version above ours as well."""
        return self.head + b"\n" + b",\n".join([self.lines[name] for name in sorted(self.lines)]) + _END


def _checked(path: Path, written: Any, damaged: bool) -> str:
    """Return the schema version to write: ours, or the one there is where that is a later minor one."""
    found = _schema(written)
    if found[0] != SCHEMA[0] and not (damaged and found < SCHEMA):
        raise RegistryError(f"'{path}' has schema version {written}; this adapterkit reads {SCHEMA[0]}")
    return _dotted(max(SCHEMA, found))


def _head(keys: Mapping[str, Any], version: str) -> bytes:
    others = {key: value for key, value in keys.items() if key != "adapters"}
    return json.dumps({**others, "schema_version": version, "adapters": {}}, ensure_ascii=False).encode()[:-2]


def _split(data: bytes, path: Path, damaged: bool) -> tuple[bytes, dict[str, bytes]] | None:
    """Return head and lines of a file with a line for each adapter, or None where it is laid out in another way.

    Ten thousand adapters are parsed in 0.2 s and split in 0.01 s.
    """
    first, _, rest = data.partition(b"\n")
    if not first.endswith(b'"adapters": {') or not rest.endswith(_END) or _LONG.search(first):
        return None
    split = rest[: -len(_END)].split(b",\n")
    if not all(line[:1] == b'"' and line[-1:] == b"}" for line in split):
        return None
    lines = {line[1 : line.index(b'"', 1)].decode(): line for line in split}
    if len(lines) != len(split):
        return None
    keys = parse_json(first + b"}}")
    version = _checked(path, keys.get("schema_version"), damaged)
    return first if keys.get("schema_version") == version else _head(keys, version), lines


def _parsed(data: bytes, path: Path, damaged: bool) -> tuple[bytes, dict[str, bytes]]:
    if _LONG.search(data):
        raise ValueError("it holds a text of more than 64 kB")  # which, parsed, may take twelve times its size
    index = parse_json(data)
    if not isinstance(index, dict) or not isinstance(index.get("adapters"), dict):
        raise TypeError
    adapters = index.pop("adapters")
    version = _checked(path, index.get("schema_version"), damaged)
    return _head(index, version), {name: _line(name, known) for name, known in adapters.items()}


def _line(name: str, known: Any) -> bytes:
    try:
        text = json.dumps(known, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(json.loads(json_bytes(known)), ensure_ascii=False)  # what isn't finite is null there
    return f'"{name}": {text}'.encode()


def _value(text: bytes) -> Any:
    """Return the value of an adapter's JSON: of a line such as we write without what makes `parse_json` take longer.

    A short one can't be large or deep; and neither half a character nor a constant is in it.
    """
    if len(text) > _SHORT or b"\\u" in text or b"NaN" in text or b"Infinity" in text:
        return parse_json(text)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _schema(version: Any) -> tuple[int, int]:
    """Return major and minor of "1.0" (or of 1, as it was written at first); 0 where it is no version."""
    found = re.fullmatch(r"(\d{1,6})(?:\.(\d{1,6}))?", str(version))
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
