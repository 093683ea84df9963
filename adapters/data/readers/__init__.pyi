"""The public names of adapterkit.data.readers."""

from .arrow import table_rows as table_rows
from .encodings import Encoding as Encoding
from .encodings import chosen as chosen
from .encodings import guessed as guessed
from .file_format import description as description
from .formats import READERS as READERS
from .formats import files_of as files_of
from .formats import format_of as format_of
from .formats import holds_texts as holds_texts
from .formats import is_data_file as is_data_file
from .formats import is_data_folder as is_data_folder
from .formats import is_label_folder as is_label_folder
from .formats import open_file as open_file
from .formats import open_rows as open_rows
from .formats import rows as rows
from .formats import stem_of as stem_of
from .source import VERSION as VERSION
from .source import BadRow as BadRow
from .source import NumberedRows as NumberedRows
from .source import ReadOptions as ReadOptions
from .source import Row as Row
from .source import Source as Source
