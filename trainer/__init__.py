"""Training and evaluation: objectives, exact steps, the Trainer, metrics and diagnostics."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


_MODULE_OF = {
    "AtriTrainer": "trainer",
    "AtriTrainingArguments": "arguments",
    "AtriDataCollator": "data.collator",
    "LanguageDraws": "data.draws",
    "load_rows": "modeling_atri.corpora.rows.load",
}

__all__ = list(_MODULE_OF)
__getattr__ = lazy_names(__name__, _MODULE_OF)


if TYPE_CHECKING:
    from modeling_atri.corpora.rows.load import load_rows

    from .arguments import AtriTrainingArguments
    from .data.collator import AtriDataCollator
    from .data.draws import LanguageDraws
    from .trainer import AtriTrainer
