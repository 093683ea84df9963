"""The public names of adapterkit.runtime."""

from .pool import OnnxPool as OnnxPool
