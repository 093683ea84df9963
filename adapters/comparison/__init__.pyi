from .entries import Options as Options
from .matrix import Matrix as Matrix
from .matrix import compare_tasks as compare_tasks
from .strategies import compare as compare
