"""Answers without torch: an exported base, run by onnxruntime, and many adapters on it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
