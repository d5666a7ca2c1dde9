"""`atri diagnose MODE ...`: measure the errors that ATRI's theory describes."""

from collections.abc import Sequence

from ...dispatch import command_in, dispatch


_DESCRIPTION = """\
Measure the errors to which ATRI (Yin et al., ACL 2025) attributes the disagreement between languages. Each mode prints
a table and writes its figures (JSON) and a plot (PNG) to --output_dir.
"""
_HELP = {
    "draws": "data distribution error: distance of an epoch's draws from all captions in all languages; no model",
    "model": "modality alignment direction error: angle between clips and the mean of their texts in all languages",
    "twins": "weight error: distance between training on drawn languages and training on all, and its upper bound",
}
_MODES = {name: command_in(f"modeling_atri.cli.commands.diagnose.{name}", help) for name, help in _HELP.items()}


def main(argv: Sequence[str]) -> int:
    """Run a mode and return its exit status."""
    return dispatch(argv, "atri diagnose", "mode", _MODES, _DESCRIPTION)
