"""Whole commands: plan, run, estimate, tune, predict."""
