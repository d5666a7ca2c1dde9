"""Fingerprints of sounds that are kept between runs, so that only new and changed recordings are decoded."""

import hashlib
import logging
import os
from pathlib import Path

import numpy as np
from huggingface_hub.constants import HF_HOME

from modeling_atri.array_shards import KEY_BYTES, ArrayShards
from modeling_atri.files import content_digest

from .sound_fingerprints import VERSION, SoundFingerprint, fingerprint


logger = logging.getLogger(__name__)

KEPT_NAME = f"fingerprints-{VERSION}"


class KeptFingerprints:
    """Fingerprints of recordings, in the folder `modeling_atri/fingerprints-N` of the cache folder of Hugging Face.

    A recording is recognised by its path, size and time of change, and otherwise by its content. So one that was
    changed is decoded again, and one that was only moved or touched is not. Several threads, processes and runs may
    use the folder; see [`ArrayShards`]. A minute takes about 8 kB. If the folder cannot be written to, a warning is
    logged, and fingerprints are computed each time.
    """

    def __init__(self) -> None:
        folder = Path(HF_HOME) / "modeling_atri"
        self._shards: ArrayShards | None = None
        try:
            self._shards = ArrayShards(folder, KEPT_NAME, "uint8")
        except OSError as error:
            logger.warning("Fingerprints are not kept, because %s cannot be created: %s", folder, error)

    def __call__(self, sound: Path) -> SoundFingerprint:
        """The fingerprint of a recording.

        Raises:
            ValueError: if the recording cannot be read.
        """
        shards, state = self._shards, _state(sound)
        if shards is None or state is None:  # of a recording that is not there, the error says why
            return fingerprint(sound)
        content = shards.get(state)
        key = content if content is not None else _content(sound)
        kept = None if key is None else shards.get(key.tobytes())
        if kept is not None:
            found = _unpacked(kept)
        else:
            found = fingerprint(sound)
            key = _content(sound)
        if key is not None and _state(sound) == state:  # the file did not change while it was read
            if kept is None:
                shards.put(key.tobytes(), _packed(found))
            if content is None:
                shards.put(state, key)
        return found


def _state(sound: Path) -> bytes | None:
    """A key of a file's path, size and time of change; None if there is no such file."""
    try:
        status = os.stat(sound)
    except OSError:
        return None
    text = f"{os.path.abspath(sound)} {status.st_size} {status.st_mtime_ns}"
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=KEY_BYTES).digest()


def _content(sound: Path) -> np.ndarray | None:
    """A key of a file's content, as an array of its 16 bytes; None if it cannot be read."""
    try:
        return np.frombuffer(bytes.fromhex(content_digest(sound)), np.uint8)
    except OSError:
        return None


def _packed(found: SoundFingerprint) -> np.ndarray:
    """A fingerprint as bytes: digest, words, and a bit for each word."""
    digest = np.frombuffer(bytes.fromhex(found.digest), np.uint8)
    return np.concatenate([digest, found.words.astype("<u4").view(np.uint8), np.packbits(found.is_heard)])


def _unpacked(content: np.ndarray) -> SoundFingerprint:
    num_words = (len(content) - KEY_BYTES) * 8 // 33  # 32 bits and one
    ends = KEY_BYTES, KEY_BYTES + 4 * num_words
    words = content[ends[0] : ends[1]].view("<u4").astype(np.uint32)
    return SoundFingerprint(
        content[: ends[0]].tobytes().hex(), words, np.unpackbits(content[ends[1] :], count=num_words).astype(bool)
    )
