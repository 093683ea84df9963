"""Rows: files to read, splits, and the Arrow cache."""
