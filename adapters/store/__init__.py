"""Saved adapters: the registry, its store of versions, and the Hub."""
