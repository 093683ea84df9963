"""The public names of adapterkit.evaluation."""

from .evaluate import Evaluation as Evaluation
from .evaluate import metrics_plain as metrics_plain
from .evaluate import predict as predict
from .report import write_evaluation as write_evaluation
