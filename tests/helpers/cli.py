"""The type of the `adapt` fixture."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import Result

Adapt = Callable[..., Result]
