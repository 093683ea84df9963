"""The public names of adapterkit.data."""

from .arrow_cache import LINE as LINE
from .input_rows import InputRows as InputRows
from .input_rows import from_texts as from_texts
from .rows import as_rows as as_rows
from .rows import memory_dataset as memory_dataset
from .rows import memory_splits as memory_splits
from .splits import Splits as Splits
from .splits import cut_validation as cut_validation
from .splits import demo_files as demo_files
from .splits import demo_names as demo_names
from .splits import load as load
from .splits import read as read
from .streams import from_file as from_file
from .streams import from_stream as from_stream
