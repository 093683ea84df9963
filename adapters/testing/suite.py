"""The contract as a class of tests, for the file of a plugin's author."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..strategy import Strategy
from .bench import FAMILIES, Bench
from .rules import Rule, cases, tried

if TYPE_CHECKING:
    import pytest


def contract(
    strategy: str | type[Strategy], *, families: Sequence[str] = FAMILIES, everywhere: bool = False, **options: Any
) -> type:
    """Return a test class that tries every rule on a strategy, with a tiny base of each family.

    `strategy` is an installed strategy or a class, with `options`. Complete runs, in two processes and
    after an interruption, are tried on the first family alone, unless `everywhere`. A family for which the strategy
    raises `StrategyError` is skipped.

    Its tests raise `StrategyError` where no such strategy is installed.

    >>> TestBitFit = contract("bitfit", families=["bert"])
    >>> TestBitFit.test_contract.__doc__
    'Try a rule on a family.'
    """
    import pytest

    tries = cases(families, everywhere=everywhere)

    benches: list[Bench] = []  # created by the first test, shared by all

    class Contract:
        """One test for each rule and family."""

        @pytest.mark.parametrize(("rule", "family"), tries, ids=[f"{rule.name}-{family}" for rule, family in tries])
        def test_contract(self, rule: Rule, family: str, tmp_path_factory: pytest.TempPathFactory) -> None:
            """Try a rule on a family."""
            if not benches:
                benches.append(Bench(strategy, tmp_path_factory.mktemp("contract"), **options))
            outcome = tried(rule, benches[0], family)
            if outcome.state == "skipped":
                pytest.skip(str(outcome))
            elif outcome.state == "broken":
                pytest.fail(str(outcome), pytrace=False)

    return Contract
