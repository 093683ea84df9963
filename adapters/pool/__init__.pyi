from .adapter_cache import Stats as Stats
from .pool import Pool as Pool
