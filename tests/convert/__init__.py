"""Tests of adapters/convert/."""
