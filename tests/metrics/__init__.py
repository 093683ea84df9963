"""Tests of adapters/metrics/."""
