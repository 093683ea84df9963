"""Training: fit a strategy, loop over batches, checkpoint."""
