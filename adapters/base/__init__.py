"""The shared base: a pretrained transformer, frozen, with its tokenizer, fingerprint and task heads."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
