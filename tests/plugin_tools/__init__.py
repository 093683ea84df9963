"""Tests of adapters/plugin_tools/."""
