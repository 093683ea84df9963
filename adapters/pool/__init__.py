"""Many adapters on one base at inference."""

from __future__ import annotations

from .pool import Pool

__all__ = ["Pool"]
