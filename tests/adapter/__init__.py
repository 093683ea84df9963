"""Tests of adapters/adapter/."""
