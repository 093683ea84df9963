"""The public names of adapterkit.data.readers."""

from .arrow import table_rows as table_rows
from .formats import READERS as READERS
from .formats import open_file as open_file
from .formats import open_rows as open_rows
from .formats import rows as rows
from .source import VERSION as VERSION
from .source import BadRow as BadRow
from .source import NumberedRows as NumberedRows
from .source import Row as Row
from .source import Source as Source
from .source import encoding as encoding
