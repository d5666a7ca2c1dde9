"""Model cards from results. Takes plain results (dicts), never a Trainer."""

from .cards import make_model_card, results_table


__all__ = ["make_model_card", "results_table"]
