"""An HTTP server over a registry: many adapters behind one address, in the dialects of existing clients."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
