"""Tells generated cards, which are replaced, from cards that a person wrote or edited, which are kept."""

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
    """Add a last line to the text of a card that no longer fits once any other line is changed."""
    text = _SIGNATURE.sub("", text).rstrip("\n") + "\n"
    return f"{text}\n<!-- made by modeling_atri, kept once it is changed by hand: {_digest(text)} -->\n"


def is_made_here(text: str) -> bool:
    """Whether a card was generated and has not been changed since."""
    found = _SIGNATURE.search(text)
    return found is not None and found[1] == _digest(text[: found.start()])


def write_card(card: RepoCard, folder: str | os.PathLike[str]) -> None:
    """Write a card into its folder, unless the folder has a card that was written or changed by hand."""
    path = Path(folder) / CARD_NAME
    if path.is_file() and not is_made_here(path.read_text(encoding="utf-8")):
        logger.warning("%s was written or changed by hand and is kept. Delete it to have a card generated.", path)
        return
    with written_whole(path) as file:
        file.write(signed(str(card)).encode())


@contextmanager
def kept_card(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Leave the card of a folder unchanged, or missing: PEFT changes or creates a card when it saves a model."""
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
