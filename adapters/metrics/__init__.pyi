"""The public names of adapterkit.metrics."""

from .answers import best_threshold as best_threshold
from .answers import squad as squad
from .bootstrap import Metrics as Metrics
from .labels import classification as classification
from .labels import confusion_matrix as confusion_matrix
from .labels import label_table as label_table
from .labels import multilabel as multilabel
from .retrieval import best_first as best_first
from .retrieval import corpus_retrieval as corpus_retrieval
from .retrieval import judged_retrieval as judged_retrieval
from .retrieval import label_retrieval as label_retrieval
from .retrieval import nearest as nearest
from .retrieval import ranking as ranking
from .spans import entities as entities
from .spans import entity_spans as entity_spans
from .spans import entity_table as entity_table
from .texts import text as text
from .values import correlation as correlation
from .values import perplexity as perplexity
from .values import regression as regression
