"""Training and evaluation: objectives, exact steps, the Trainer, metrics and diagnostics."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from modeling_atri.corpora.rows.load import load_rows as load_rows

    from .arguments import AtriTrainingArguments as AtriTrainingArguments
    from .data.collator import AtriDataCollator as AtriDataCollator
    from .data.draws import LanguageDraws as LanguageDraws
    from .trainer import AtriTrainer as AtriTrainer

__getattr__, __all__ = lazy_names(__name__, __file__)
