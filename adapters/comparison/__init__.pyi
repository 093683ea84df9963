from .entries import Options as Options
from .strategies import compare as compare
