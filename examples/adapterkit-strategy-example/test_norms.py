"""The strategy fulfils adapterkit's contract."""

from adapterkit.testing import contract

TestNorms = contract("norms")
