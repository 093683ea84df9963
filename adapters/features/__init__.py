"""Tokenized rows, batches of them, and cached hidden states."""
