"""Tests for the author of a strategy: the contract, and tiny bases of several families.

A complete test file:

    from adapterkit.testing import contract

    TestBitFit = contract("bitfit")

Names are imported on first use, so that `adapt plugins --help` imports neither torch nor pytest.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
