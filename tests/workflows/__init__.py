"""Tests of adapters/workflows/."""
