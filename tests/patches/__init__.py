"""Tests of adapters/patches/."""
