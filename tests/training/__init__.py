"""Tests of adapters/training/."""
