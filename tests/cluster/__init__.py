"""Tests of adapters/cluster/."""
