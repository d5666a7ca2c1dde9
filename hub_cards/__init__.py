"""Results of models (one schema), cards made from them, and pushing to the Hub."""

from .cards import make_model_card
from .cards.dataset_cards import make_dataset_card, make_space_card
from .cards.metadata import eval_results_files
from .publish import publish  # not on first use, because the module has the same name
from .results import Results, read_results
from .tables import results_table, text_table


__all__ = [
    "Results",
    "eval_results_files",
    "make_dataset_card",
    "make_model_card",
    "make_space_card",
    "publish",
    "read_results",
    "results_table",
    "text_table",
]
