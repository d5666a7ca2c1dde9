"""The result of every reader: clips with parallel captions, and lists of what had to be left out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..rows.bad_rows import BadRow


# Kinds of faults, in addition to those of `bad_rows`.
AMBIGUOUS_RECORDING = "ambiguous recording"  # several files fit a clip, or a file fits several clips
OTHER_CLIP = "other clip"  # languages disagree about the clip that a caption belongs to
OVERLAP = "overlap"  # also in a test set
DUPLICATE_LINE = "duplicate line"  # repeats an earlier caption of the same clip


class Clip(NamedTuple):
    """A recording of a corpus with its captions.

    Args:
        audio_id: Unique in the corpus.
        sound: The sound file, or a function that returns its content.
        captions: Captions by FLORES-200 code; `captions[l][c]` says the same in every language `l`.
        source_ids: Names of the recording at its source, as `youtube:7fmOlUlwoNg` or `freesound:80399`. Corpora that
            took it from the same source agree on them.
        seconds: Length according to the corpus; None if it does not say.
    """

    audio_id: str
    sound: Path | Callable[[], bytes]
    captions: dict[str, list[str]]
    source_ids: tuple[str, ...] = ()
    seconds: float | None = None


class Corpus(NamedTuple):
    """What a reader found in a corpus.

    Args:
        name: Name of the corpus.
        clips: Clips with captions and a recording. The recordings have not been opened yet.
        left_out: The other clips. Their `place` is None.
        lost_captions: Captions that are missing in some language, and so are left out in all. Their `audio_id` is the
            clip's.
        made_from: Files and settings, for the report.
    """

    name: str
    clips: list[Clip]
    left_out: list[BadRow]
    lost_captions: list[BadRow]
    made_from: dict[str, Any]
