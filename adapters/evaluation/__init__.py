"""Model outputs on rows, and metrics of them."""
