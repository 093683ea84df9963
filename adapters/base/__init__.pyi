from .base import Base as Base
from .checkpoint import HUB_IDS as HUB_IDS
from .checkpoint import INSTALLED as INSTALLED
from .checkpoint import find_base as find_base
from .checkpoint import known_as as known_as
from .snapshot import Snapshot as Snapshot
from .stub import BaseStub as BaseStub
from .tracing import Trace as Trace
