"""Tests of adapters/execution/."""
