"""The public names of adapterkit.tasks."""

from .fill_mask import FillMask as FillMask
from .inference import infer_task as infer_task
from .inference import labels_are_texts as labels_are_texts
from .installed import TASKS as TASKS
from .installed import load_task as load_task
from .installed import task_class as task_class
from .multiple_choice import MultipleChoice as MultipleChoice
from .question_answering import QuestionAnswering as QuestionAnswering
from .sentence_similarity import SentenceSimilarity as SentenceSimilarity
from .task import Rows as Rows
from .task import Task as Task
from .text2text_generation import Text2TextGeneration as Text2TextGeneration
from .text_classification import TextClassification as TextClassification
from .text_generation import TextGeneration as TextGeneration
from .text_ranking import TextRanking as TextRanking
from .token_classification import TokenClassification as TokenClassification
