"""Adapters to and from other formats: merged models, PEFT, compressed encodings."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
