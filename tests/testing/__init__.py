"""Tests of adapters/testing/."""
