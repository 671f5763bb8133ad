from .claim import check_claim as check_claim
from .estimate import Timer as Timer
from .estimate import budgets as budgets
from .node_placement import Node as Node
from .node_placement import nodes as nodes
from .node_placement import require_place as require_place
from .sweep import run_sweep as run_sweep
