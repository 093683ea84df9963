"""Tests of adapters/probe/."""
