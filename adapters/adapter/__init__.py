"""One adapter: its patches and head in memory, and its files on disk."""
