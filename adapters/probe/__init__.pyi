from .model import Form as Form
from .model import ProbeHead as ProbeHead
from .model import ProbeModel as ProbeModel
from .search import SolverOptions as SolverOptions
from .solver import Solved as Solved
