"""Tests of adapters/features/."""
