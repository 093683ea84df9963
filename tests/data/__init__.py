"""Tests of adapters/data/."""
