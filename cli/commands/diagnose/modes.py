"""`atri diagnose MODE ...`: the errors that ATRI's theory is about, measured."""

import sys
from difflib import get_close_matches
from importlib import import_module


_MODES = ("draws", "model", "twins")
_OVERVIEW = """\
usage: atri diagnose MODE [options]

Measure what ATRI (Yin et al., ACL 2025) holds responsible where languages disagree. Each mode prints a table and
writes its figures (JSON) and a plot (PNG) to --output_dir.

modes:
  draws  data distribution error: how far what an epoch trains on is from all captions in all languages; needs no model
  model  modality alignment direction error: angle between clips and the mean of their texts in all languages
  twins  weight error: how far training on drawn languages leads from training on all of them, and its upper bound

`atri diagnose MODE --help` explains a mode, `atri diagnose --help_all` every option of all of them.
"""


def main(argv: list[str]) -> None:
    """Run the mode that the first word names."""
    mode = argv[0] if argv else None
    if mode in ("-h", "--help", "help"):
        print(_OVERVIEW)
        sys.exit(0)
    if mode == "--help_all":
        _explain_all()
    if mode not in _MODES:
        near = get_close_matches(mode or "", _MODES, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "`atri diagnose --help` explains them."
        raise ValueError(f"The first word must be a mode, {', '.join(_MODES)}; got {mode!r}. {hint}")
    import_module(f".{mode}", __package__).main(argv[1:])


def _explain_all() -> None:
    for mode in _MODES:
        try:
            import_module(f".{mode}", __package__).main(["--help_all"])
        except SystemExit:  # argparse's way to end after its help
            print()
    sys.exit(0)
