"""The built-in strategies. Each imports `adapterkit` as a stranger's would, and is found as a stranger's is."""
