"""Who wrote a card: one that was made here is made anew, one that a person wrote, or wrote into, stays."""

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import RepoCard

from modeling_atri.files import written_whole


logger = logging.getLogger(__name__)

CARD_NAME = "README.md"
_SIGNATURE = re.compile(r"\n<!-- made by modeling_atri, kept once it is changed by hand: ([0-9a-f]{16}) -->\n?\Z")


def signed(text: str) -> str:
    """The text of a card with a last line that a change of any other line breaks."""
    text = _SIGNATURE.sub("", text).rstrip("\n") + "\n"
    return f"{text}\n<!-- made by modeling_atri, kept once it is changed by hand: {_digest(text)} -->\n"


def is_made_here(text: str) -> bool:
    """Whether a card is as `signed` left it."""
    found = _SIGNATURE.search(text)
    return found is not None and found[1] == _digest(text[: found.start()])


def write_card(card: RepoCard, folder: str | os.PathLike) -> None:
    """Write a card into its folder, unless one lies there that was written or changed by hand."""
    path = Path(folder) / CARD_NAME
    if path.is_file() and not is_made_here(path.read_text(encoding="utf-8")):
        logger.warning("%s was written or changed by hand and stays; delete it to have a card made.", path)
        return
    with written_whole(path) as file:
        file.write(signed(str(card)).encode())


@contextmanager
def kept_card(folder: str | os.PathLike) -> Iterator[None]:
    """Leave the card of a folder as it is, or missing: PEFT would write into it, or an empty one, with a model."""
    path = Path(folder) / CARD_NAME
    before = path.read_bytes() if path.is_file() else None
    try:
        yield
    finally:
        if before is None:
            path.unlink(missing_ok=True)
        elif path.read_bytes() != before:
            path.write_bytes(before)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.strip().encode(), digest_size=8).hexdigest()
