from .executor import Executor as Executor
from .executor import Local as Local
from .executor import Worker as Worker
from .opening import open_executor as open_executor
from .placement import Placement as Placement
