from .results import Results as Results
from .results import read_results as read_results
