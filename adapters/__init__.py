"""adapterkit: one shared transformer base, a small adapter per task, and pluggable strategies to train them.

Names are imported on first use, so that `import adapterkit` doesn't import torch; `__init__.pyi` lists them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
