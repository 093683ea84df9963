"""Small data sets written for this project, one folder each: `--dataset demo:NAME`."""
