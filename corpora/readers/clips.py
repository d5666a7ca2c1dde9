"""What every reader of a corpus makes: clips with parallel captions, and the account of what it had to leave out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..rows.bad_rows import BadRow


# Kinds of what is left out, beside those of `bad_rows`.
AMBIGUOUS_RECORDING = "ambiguous recording"  # several files fit, or a file fits several clips
OTHER_CLIP = "other clip"  # languages disagree on which clip a caption is of
OVERLAP = "overlap"  # also in a test set
DUPLICATE_LINE = "duplicate line"  # a caption that is there before, in the same words, of the same clip


class Clip(NamedTuple):
    """One recording of a corpus.

    Args:
        audio_id: unique in the corpus.
        sound: the file, or what returns the content of one.
        captions: by FLORES-200 code; `captions[l][c]` says the same in every language l.
        source_ids: what it is called where it comes from, as `youtube:7fmOlUlwoNg` or `freesound:80399`; corpora that
            took it from the same place agree on them.
        seconds: how long the corpus says that it lasts; None if it does not say.
    """

    audio_id: str
    sound: Path | Callable[[], bytes]
    captions: dict[str, list[str]]
    source_ids: tuple[str, ...] = ()
    seconds: float | None = None


class Corpus(NamedTuple):
    """What was read of a corpus.

    Args:
        name: of the corpus.
        clips: those that have captions and a recording, which nobody has opened yet.
        left_out: the other clips; `place` is None.
        lost_captions: captions that some language lacks, and so are left out in all; `audio_id` is the clip's.
        made_from: the files and settings, for the report.
    """

    name: str
    clips: list[Clip]
    left_out: list[BadRow]
    lost_captions: list[BadRow]
    made_from: dict[str, Any]
