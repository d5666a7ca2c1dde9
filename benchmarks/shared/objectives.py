"""The objectives in the order in which the results show them."""

from modeling_atri.trainer.objectives import find_objective


TITLES = {name: find_objective(name).title for name in ("mlclap", "cacl", "kcl", "akcl")}
