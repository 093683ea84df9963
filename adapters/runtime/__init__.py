"""The processes, devices and trackers of a run."""
