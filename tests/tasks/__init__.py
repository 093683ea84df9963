"""Tests of adapters/tasks/."""
