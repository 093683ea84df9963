from .feed import Feed as Feed
from .hidden_states import HiddenStates as HiddenStates
from .length_batches import Batches as Batches
from .shared_states import SharedStates as SharedStates
from .tokenize import tokenized as tokenized
