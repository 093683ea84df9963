"""Files: atomic writes, bounded reads, tensor files."""
