"""Cards from facts, and the way to the Hub. Takes plain results (dicts), never a Trainer."""

from .cards import make_model_card
from .dataset_cards import make_dataset_card, make_space_card
from .metadata import eval_results_files
from .publish import publish
from .tables import results_table


__all__ = [
    "eval_results_files",
    "make_dataset_card",
    "make_model_card",
    "make_space_card",
    "publish",
    "results_table",
]
