"""Tests of adapters/base/."""
