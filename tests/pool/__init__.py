"""Tests of adapters/pool/."""
