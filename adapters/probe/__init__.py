"""The linear probe: a head that is solved on frozen hidden states."""
