"""Tests of adapters/store/."""
