"""The strategy keeps adapterkit's contract."""

from adapterkit.testing import contract

TestNorms = contract("norms")
