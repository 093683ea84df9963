"""Look up the modality of a base by its main input: tokens, or a plugin's."""

from __future__ import annotations

from typing import Any, Protocol

from ..discovery import MODALITIES, Plugin, find_plugin, installed
from ..errors import BaseModelError
from .modality import Modality
from .tokens import Tokens


class HasModality(Protocol):
    """A base, or its preprocessor alone."""

    @property
    def name(self) -> str:
        """The base's name."""

    @property
    def modality(self) -> Modality:
        """What it reads."""


def modality_class(model: Any, name: str) -> type[Modality]:
    """Return the modality of the base `name`, whose model is an instance or a class of transformers.

    Raises `BaseModelError` where nothing that is installed reads the base's main input.
    """
    main_input = getattr(model, "main_input_name", Tokens.name)
    if main_input == Tokens.name:
        return Tokens
    names = [plugin.name for plugin in installed(MODALITIES)]
    if main_input not in names:
        readable = ", ".join([Tokens.name, *sorted(set(names))])
        raise BaseModelError(
            f"base '{name}' reads {main_input}, and no installed package has a modality of that name; "
            f"installed: {readable}"
        )
    return load_modality(find_plugin(main_input, MODALITIES))


def check_reads(base: HasModality, main_input: str, reader: str) -> None:
    """Raise `BaseModelError` where a base reads another main input than `reader` needs, such as a task."""
    if (reads := base.modality.name) != main_input:
        raise BaseModelError(f"{reader} needs a base that reads {main_input}, but '{base.name}' reads {reads}")


def load_modality(plugin: Plugin) -> type[Modality]:
    """Import a plugin's modality. Raises `BaseModelError` where it can't be used."""
    cls = plugin.load_class(Modality)  # type: ignore[type-abstract]
    if getattr(cls, "name", None) != plugin.name:
        raise BaseModelError(f"{plugin.label} has the name {getattr(cls, 'name', None)!r}: {plugin.target}")
    return cls
