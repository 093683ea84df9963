"""Options are the fields of frozen dataclasses: flags, config keys, manifests and docs are all made from them.

A field is written `r: Annotated[int, "rank of the update"] = 8`. Strings in the annotation that begin with `--` are
further spellings (`"--epochs"`), the other string is the help.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from .errors import OptionError, unknown

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Option:
    """One field as the command line and the config file see it."""

    name: str
    type: Any  # int, float, bool, str, tuple, or a tuple of choices (strings)
    optional: bool
    default: Any  # dataclasses.MISSING where there is none
    help: str
    aliases: tuple[str, ...]
    words: tuple[str, ...] = ()  # taken as they are, beside values of the type

    @property
    def flag(self) -> str:
        """The option as a flag of the command line."""
        return "--" + self.name.replace("_", "-")

    def parse(self, value: Any) -> Any:
        """Return `value`, a text or a YAML value, as the field's type, or raise `OptionError`."""
        if value is None:
            if self.optional:
                return None
            raise OptionError(f"{self.flag} needs a value ({self.expected})")
        if value in self.words:
            return value
        if value == "" and self.default != "":
            raise OptionError(f"{self.flag} is empty, and {self.expected} was expected")
        try:
            return self._convert(value)
        except (KeyError, TypeError, ValueError):
            raise OptionError(f"{self.flag}={value!r} is not {self.expected}") from None

    @property
    def expected(self) -> str:
        """What values the option takes, in words."""
        if isinstance(self.type, tuple):
            return "one of " + ", ".join(self.type)
        words = {int: "a whole number", float: "a number", bool: "true or false", tuple: "a list", str: "a text"}
        return " or ".join((words[self.type], *self.words))

    def _convert(self, value: Any) -> Any:
        if isinstance(self.type, tuple):
            if value not in self.type:
                raise ValueError
            return value
        if self.type is tuple:
            parts = value.split(",") if isinstance(value, str) else value
            return tuple(str(part).strip() for part in parts)
        if self.type is bool:
            if isinstance(value, bool):
                return value
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[str(value).lower()]
        if isinstance(value, (bool, list | dict)):
            raise TypeError
        if self.type is int and isinstance(value, float):
            raise TypeError
        return self.type(value)


@functools.cache
def options(cls: type) -> Mapping[str, Option]:
    """Return the options of a dataclass by field name, in order.

    Raises `OptionError` where a field's type can't be a flag: int, float, bool, str, Literal of strings, a tuple of
    strings, or any of these or None.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: _option(cls, field, hints[field.name]) for field in dataclasses.fields(cls)}


def _option(cls: type, field: dataclasses.Field[Any], hint: Any) -> Option:
    notes: list[str] = []
    if typing.get_origin(hint) is typing.Annotated:
        hint, *extra = typing.get_args(hint)
        notes = [note for note in extra if isinstance(note, str)]
    optional = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [arm for arm in typing.get_args(hint) if arm is not types.NoneType]
        optional = len(inner) < len(typing.get_args(hint))
        hint = inner[0] if len(inner) == 1 else hint
    origin = typing.get_origin(hint)
    if origin is typing.Literal and all(isinstance(choice, str) for choice in typing.get_args(hint)):
        hint = typing.get_args(hint)
    elif origin is tuple:
        hint = tuple
    if not (isinstance(hint, tuple) or hint in (int, float, bool, str, tuple)):
        raise OptionError(
            f"{cls.__name__}.{field.name}: {hint} can't be a flag; use int, float, bool, str or a Literal of texts"
        )
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    return Option(
        name=field.name,
        type=hint,
        optional=optional,
        default=default,
        help=next((note for note in notes if not note.startswith("--")), ""),
        aliases=tuple(note for note in notes if note.startswith("--")),
    )


def build(cls: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """Make a `cls` from plain values, each converted to its field's type.

    Raises `OptionError` for a key that is no field, a value of the wrong type, and a missing one.
    """
    known = options(cls)  # type: ignore[arg-type]
    prefix = f"{where}: " if where else ""
    for key in values:
        if key not in known:
            raise OptionError(prefix + unknown("option", key, known))
    missing = [name for name, o in known.items() if o.default is dataclasses.MISSING and name not in values]
    if missing:
        raise OptionError(f"{prefix}{known[missing[0]].flag} is required")
    try:
        return cls(**{key: known[key].parse(value) for key, value in values.items()})
    except OptionError as error:
        raise OptionError(f"{prefix}{error}") from error


def plain(instance: Any) -> dict[str, Any]:
    """Return the fields of a dataclass as JSON and YAML values."""
    values = {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
