"""Install, inspect and scaffold plugins."""
