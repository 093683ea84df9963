"""Tiny bases of each family, with the heads that they come with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from adapterkit import Base
from adapterkit.testing import tiny


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Base]:
    """Return a function from a family, and a task, to a tiny base with the head that it comes with, loaded once."""
    loaded: dict[tuple[str, str], Base] = {}

    def base(family: str, task: str = "text-classification") -> Base:
        key = (family, tiny.HEADS.get(task, "AutoModel"))
        if key not in loaded:
            folder = tmp_path_factory.mktemp(family) / "base"
            loaded[key] = Base.load(str(tiny.make(family, folder, head=key[1])))
        return loaded[key]

    return base


@pytest.fixture
def bert(base_of: Callable[..., Base]) -> Base:
    return base_of("bert")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Return a function from a family and a task to the folder of a tiny base, made once."""
    known: dict[tuple[str, str], str] = {}

    def folder(family: str, task: str = "text-classification") -> str:
        key = (family, tiny.HEADS.get(task, "AutoModel"))
        if key not in known:
            known[key] = str(tiny.make(family, tmp_path_factory.mktemp(family) / "base", head=key[1]))
        return known[key]

    return folder


@pytest.fixture(scope="module")
def loaded(folder_of: Callable[..., str]) -> Callable[..., Base]:
    """Return a function from a family and a task to its tiny base, loaded once."""
    known: dict[str, Base] = {}

    def base(family: str, task: str = "text-classification") -> Base:
        folder = folder_of(family, task)
        if folder not in known:
            known[folder] = Base.load(folder)
        return known[folder]

    return base
