"""Minimal adapter folders for the store."""

from __future__ import annotations

from pathlib import Path

from adapterkit import Registry
from tests import faults


def add(path: Path, name: str, content: str, *, stage: str | None = None) -> str:
    return Registry(path).add(name, faults.files(content), faults.ENTRY, stage)


def manifest(content: str) -> bytes:
    return faults.files(content)["adapter.json"]
