"""The registry that `adapt predict` answers from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers.cli import Adapt
from tests.helpers.shop import Shop


@pytest.fixture(scope="module")
def made_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(made_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("ADAPT_REGISTRY", str(made_shop.registry.path))
    return made_shop


@pytest.fixture
def good(adapt: Adapt, shop: Shop) -> Callable[..., str]:
    """Return a function that runs `adapt predict`, which goes well, and returns what it prints."""

    def run(*args: object, **kwargs: Any) -> str:
        done = adapt("predict", *args, **kwargs)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run
