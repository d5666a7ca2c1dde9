"""Cards of models, data sets and Spaces: their texts, their metadata, and where the weights of a model come from."""

from .model_cards import DEFAULT_TITLE, bare_query_text, make_model_card, read_template, write_model_card


__all__ = ["DEFAULT_TITLE", "bare_query_text", "make_model_card", "read_template", "write_model_card"]
