"""Tools for plugin authors and users: list, install, scaffold."""
