"""The command `adapt`: it parses, calls one function of the library, and prints."""

from __future__ import annotations

from adapterkit.cli.main import main

__all__ = ["main"]
