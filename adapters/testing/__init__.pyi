"""The public names of adapterkit.testing."""

from .bench import Bench as Bench
from .rules import RULES as RULES
from .rules import Outcome as Outcome
from .rules import Rule as Rule
from .rules import cases as cases
from .rules import tried as tried
from .suite import contract as contract
