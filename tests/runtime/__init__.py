"""Tests of adapters/runtime/."""
