"""The command `adapt`: it parses, calls one function of the library, and prints."""

from __future__ import annotations

from .main import main

__all__ = ["main"]
