"""The public names of adapterkit."""

from .adapter.adapter import Adapter as Adapter
from .base.base import Base as Base
from .errors import AdapterkitError as AdapterkitError
from .evaluation.evaluate import evaluate as evaluate
from .evaluation.evaluate import predict as predict
from .patches.low_rank import LowRank as LowRank
from .patches.patch import Patch as Patch
from .patches.patch import Update as Update
from .patches.replace import Replace as Replace
from .patches.scaling import Bias as Bias
from .patches.scaling import Scale as Scale
from .pool.pool import Pool as Pool
from .store.registry import Registry as Registry
from .strategy import Strategy as Strategy
from .training.train import train as train
from .watch import Watch as Watch
from .workflows.adapted_model import AdaptedModel as AdaptedModel
from .workflows.plan import Plan as Plan
from .workflows.python_api import load as load
from .workflows.python_api import run as run
from .workflows.run import Report as Report
