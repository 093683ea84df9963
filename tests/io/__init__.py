"""Tests of adapters/io/."""
