from .precision import Precision as Precision
from .stop_signals import StoppedError as StoppedError
