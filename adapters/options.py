"""Options: the fields of frozen dataclasses, from which flags, config keys, manifests and docs are generated.

A field is written `r: Annotated[int, "rank of the update"] = 8`. Strings in the annotation that begin with `--` are
aliases (`"--epochs"`), the other string is the help.
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
    """A field of an options class: its name, type, default and help."""

    name: str
    type: Any  # int, float, bool, str, tuple, or a tuple of choices (strings)
    optional: bool
    default: Any  # dataclasses.MISSING where there is none
    help: str
    aliases: tuple[str, ...]
    words: tuple[str, ...] = ()  # accepted as they are, beside values of the type

    @property
    def flag(self) -> str:
        """The flag of the command line."""
        return "--" + self.name.replace("_", "-")

    def parse(self, value: Any) -> Any:
        """Convert a text or a YAML value to the field's type, or raise `OptionError`."""
        if value is None and self.optional:
            return None
        if isinstance(value, str) and value in self.words:
            return value
        if value == "" and self.default != "":
            raise OptionError(f"{self.flag} must not be empty; expected {self.expected}")
        try:
            return self._convert(value)
        except (KeyError, TypeError, ValueError):
            raise OptionError(f"{self.flag} must be {self.expected}, got {value!r}") from None

    @property
    def expected(self) -> str:
        """The values that the option accepts, in words."""
        if isinstance(self.type, tuple):
            return "one of " + ", ".join(self.type)
        words = {int: "an integer", float: "a number", bool: "true or false", tuple: "a list", str: "a text"}
        return " or ".join((words[self.type], *self.words))

    def _convert(self, value: Any) -> Any:
        """Convert a value; raises KeyError, TypeError or ValueError for one of another type."""
        if value is None:
            raise TypeError
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


def options(cls: type) -> Mapping[str, Option]:
    """Return the options of a dataclass by field name, in the order of its fields.

    A field's type is int, float, bool, str, a Literal of strings, a tuple of strings, or one of these or None. Raises
    `OptionError` for any other type.
    """
    return _options_of(cls)


@functools.cache  # evaluating annotations takes longer than anything else that reads options
def _options_of(cls: type) -> Mapping[str, Option]:
    hints = typing.get_type_hints(cls, include_extras=True)
    by_name = {field.name: _option(cls, field, hints[field.name]) for field in dataclasses.fields(cls)}
    return types.MappingProxyType(by_name)


def _option(cls: type, field: dataclasses.Field[Any], hint: Any) -> Option:
    texts: list[str] = []
    if typing.get_origin(hint) is typing.Annotated:
        hint, *annotations = typing.get_args(hint)
        texts = [text for text in annotations if isinstance(text, str)]
    optional = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(hint) if member is not types.NoneType]
        optional = len(members) < len(typing.get_args(hint))
        hint = members[0] if len(members) == 1 else hint
    origin = typing.get_origin(hint)
    if origin is typing.Literal and all(isinstance(choice, str) for choice in typing.get_args(hint)):
        hint = typing.get_args(hint)
    elif origin is tuple:
        hint = tuple
    if not (isinstance(hint, tuple) or hint in (int, float, bool, str, tuple)):
        raise OptionError(
            f"{cls.__name__}.{field.name}: {hint} can't be a flag; use int, float, bool, str or a Literal of strings"
        )
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    return Option(
        name=field.name,
        type=hint,
        optional=optional,
        default=default,
        help=next((text for text in texts if not text.startswith("--")), ""),
        aliases=tuple(text for text in texts if text.startswith("--")),
    )


def build(cls: type[T], values: Mapping[str, Any], *, source: str = "") -> T:
    """Build a `cls` from plain values, each converted to its field's type; `source` begins each error.

    Raises `OptionError` for an unknown key, a value of the wrong type, and a missing value.
    """
    fields = options(cls)
    prefix = f"{source}: " if source else ""
    for key in values:
        if key not in fields:
            raise OptionError(prefix + unknown("option", key, fields))
    missing = [name for name, o in fields.items() if o.default is dataclasses.MISSING and name not in values]
    if missing:
        raise OptionError(f"{prefix}{fields[missing[0]].flag} is required")
    try:
        return cls(**{key: fields[key].parse(value) for key, value in values.items()})
    except OptionError as error:
        raise OptionError(f"{prefix}{error}") from error


def plain(instance: Any) -> dict[str, Any]:
    """Return the fields of a dataclass as JSON values."""
    values = {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
