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
    """Return a test class that holds a strategy to every rule, on a tiny base of each family.

    `strategy` is the name of an installed one, or its class; `options` are given to it. Whole runs, of two processes
    and after a death, are tried on the first family alone, unless `everywhere`. A family that the strategy refuses
    with `StrategyError` is skipped.
    """
    import pytest

    tries = cases(families, everywhere=everywhere)

    made: list[Bench] = []  # by the first test, for all of them

    class Contract:
        """One test for each rule and family."""

        @pytest.mark.parametrize(("rule", "family"), tries, ids=[f"{rule.name}-{family}" for rule, family in tries])
        def test_contract(self, rule: Rule, family: str, tmp_path_factory: pytest.TempPathFactory) -> None:
            """Try a rule on a family."""
            if not made:
                made.append(Bench(strategy, tmp_path_factory.mktemp("contract"), **options))
            outcome = tried(rule, made[0], family)
            if outcome.state == "skipped":
                pytest.skip(str(outcome))
            elif outcome.state == "broken":
                pytest.fail(str(outcome), pytrace=False)

    return Contract
