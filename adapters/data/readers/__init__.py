"""Read the rows of a data file, one at a time, each with its line: one file format per module."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
