"""Where independent tasks are computed: here, in several processes of this machine, or over a Ray cluster."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
