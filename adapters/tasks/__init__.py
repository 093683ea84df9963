"""What a base is trained to do: one task per file, named by the pipeline tags of transformers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
