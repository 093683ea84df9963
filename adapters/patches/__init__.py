"""Patches: changes to one module of the base, one kind per file."""
