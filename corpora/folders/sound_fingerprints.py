"""Recordings known again by how they sound: re-encoded, resampled, at another level, or cut out of one another.

The fingerprint is that of Haitsma and Kalker (A Highly Robust Audio Fingerprinting System, ISMIR 2002), with numbers
of our own: every 32 ms a word of 32 bits, each the sign of how the difference of two neighbouring bands, of 33 between
200 and 3600 Hz, changed. Two recordings are the same sound where, at one offset, few bits of their words differ.

Of 1.4 million pairs of ESC-10 scenes without a recording in common, none is taken for the same sound: the closest have
44 % differing bits, against at most 19 % after a codec at its lowest quality. Only two recordings of one fire, which
its author published under two numbers, are found to be one, as they should be (`test_sound_fingerprints.py`). A scene
that is mixed with another, or cut to where little changes, may be missed.
"""

import hashlib
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from modeling_atri.audio_io.load import SAMPLING_RATE, load_audio


FRAME = 4096  # samples at 16 kHz: 256 ms
HOP = 512  # 32 ms
LAG = 4  # hops between the two frames of a difference: half a frame, where they share little
NUM_BITS = 32
LOWEST_HZ, HIGHEST_HZ = 200.0, 3600.0  # what is left of a recording at 8 kHz
SILENCE_DB = -75.0  # of full scale: below, an encoder leaves nothing as it was
MIN_CHANGE_DB = 0.5  # mean over the bits of a word; below, the signs are rounding's
MIN_SECONDS = 2.0  # that two recordings must share
MAX_BIT_ERRORS = 0.3  # share of differing bits in what is one sound


class SoundFingerprint(NamedTuple):
    """How a recording is known again.

    Args:
        digest: 32 hexadecimal digits of the decoded samples at 16 kHz: equal only for equal samples.
        words: `np.uint32` of shape `(num_frames,)`.
        is_heard: `bool` of shape `(num_frames,)`, False where there is silence, or nothing changes.
    """

    digest: str
    words: np.ndarray
    is_heard: np.ndarray

    @property
    def heard_seconds(self) -> float:
        """How long something is heard."""
        return float(self.is_heard.sum() * HOP / SAMPLING_RATE)


class Match(NamedTuple):
    """Two recordings that are one sound.

    Args:
        index: of the recording in the index.
        bit_errors: share of bits that differ, 0 to `MAX_BIT_ERRORS`; of different sounds it is near 0.5.
        seconds: how long what they share is.
    """

    index: int
    bit_errors: float
    seconds: float


def fingerprint(sound: str | os.PathLike | bytes) -> SoundFingerprint:
    """Decodes a recording and takes its fingerprint.

    Raises:
        ValueError: a recording that cannot be read.
    """
    return fingerprint_waveform(load_audio(sound))


def fingerprint_waveform(waveform: np.ndarray) -> SoundFingerprint:
    """The fingerprint of a waveform at 16 kHz, `(num_samples,)`, float32. Below half a second it has no words."""
    digest = hashlib.blake2b(waveform.tobytes(), digest_size=16).hexdigest()
    num_frames = 1 + (len(waveform) - FRAME) // HOP
    if num_frames <= LAG:
        return SoundFingerprint(digest, np.zeros(0, np.uint32), np.zeros(0, bool))
    decibels = _band_decibels(waveform, num_frames)  # (num_frames, 33)
    change = np.diff(decibels[LAG:] - decibels[:-LAG], axis=1)  # (num_frames - LAG, 32)
    words = np.packbits(change > 0, axis=1, bitorder="little").view("<u4")[:, 0].astype(np.uint32)
    loud = decibels.max(axis=1) > SILENCE_DB
    is_heard = loud[LAG:] & loud[:-LAG] & (np.abs(change).mean(axis=1) > MIN_CHANGE_DB)
    return SoundFingerprint(digest, words, is_heard)


def _band_decibels(waveform: np.ndarray, num_frames: int, frames_at_once: int = 1024) -> np.ndarray:
    """Mean power of each band in each frame, dB of full scale: `(num_frames, 33)`."""
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, NUM_BITS + 2) * FRAME / SAMPLING_RATE
    edges = np.round(edges).astype(int)  # bins; each band has some: the first is 4 wide
    window = np.hanning(FRAME).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, FRAME)[::HOP][:num_frames]
    parts = []
    for begin in range(0, num_frames, frames_at_once):  # an hour at once would be gigabytes
        spectrum = np.fft.rfft(frames[begin : begin + frames_at_once] * window, axis=1)[:, edges[0] : edges[-1]]
        power = spectrum.real**2 + spectrum.imag**2
        bands = np.add.reduceat(power, edges[:-1] - edges[0], axis=1) / np.diff(edges)
        parts.append(10 * np.log10(bands / (window.sum() / 2) ** 2 + 1e-12))
    return np.concatenate(parts).astype(np.float32)


class FingerprintIndex:
    """Recordings among which sounds are looked for.

    A word of a sound that is there has, even after re-encoding, often all bits of one half as they were. So words are
    found by their halves, and places that several words agree on are compared bit by bit.

    Args:
        fingerprints: of the recordings.
    """

    def __init__(self, fingerprints: Sequence[SoundFingerprint]):
        self._lengths = [len(item.words) for item in fingerprints]
        self._begins = np.cumsum([0, *self._lengths])  # of each recording, on one line of all words
        self._words = np.concatenate([np.zeros(0, np.uint32), *(item.words for item in fingerprints)])
        self._is_heard = np.concatenate([np.zeros(0, bool), *(item.is_heard for item in fingerprints)])
        self._by_digest: dict[str, list[int]] = {}
        for index, item in enumerate(fingerprints):
            self._by_digest.setdefault(item.digest, []).append(index)
        places = np.flatnonzero(self._is_heard)
        keys = np.concatenate(_keys(self._words[places]))
        order = np.argsort(keys, kind="stable")
        self._places = np.concatenate([places, places])[order]
        self._first = np.searchsorted(keys[order], np.arange(2 * 2**16 + 1))  # of each key, among places
        # A key that many words have (of steady tones, say) tells nothing, and costs most.
        self._max_places = max(64, 8 * len(keys) // (2 * 2**16))

    def same_samples(self, sound: SoundFingerprint) -> list[int]:
        """The recordings whose decoded samples are exactly the same."""
        return self._by_digest.get(sound.digest, [])

    def find(self, sound: SoundFingerprint) -> list[Match]:
        """The recordings that share at least `MIN_SECONDS` with a sound, each once, the best first."""
        best: dict[int, Match] = {}
        for offset in self._offsets(sound):
            for match in self._compare(sound, offset):
                if match.index not in best or match.bit_errors < best[match.index].bit_errors:
                    best[match.index] = match
        return sorted(best.values(), key=lambda match: match.bit_errors)

    def _offsets(self, sound: SoundFingerprint) -> np.ndarray:
        """Where on the line of all words the sound's first word may be, by the votes of its words."""
        places = np.flatnonzero(sound.is_heard)
        keys = np.concatenate(_keys(sound.words[places]))
        places = np.concatenate([places, places])
        counts = self._first[keys + 1] - self._first[keys]
        kept = (counts > 0) & (counts <= self._max_places)
        keys, places, counts = keys[kept], places[kept], counts[kept]
        if len(keys) == 0:
            return np.zeros(0, int)
        steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        votes = self._places[np.repeat(self._first[keys], counts) + steps] - np.repeat(places, counts)
        offsets, num_votes = np.unique(votes, return_counts=True)
        chosen = np.argsort(-num_votes, kind="stable")[:_MAX_OFFSETS]
        return offsets[chosen][num_votes[chosen] >= _MIN_VOTES]

    def _compare(self, sound: SoundFingerprint, offset: int) -> list[Match]:
        """The recordings that the sound lies over at an offset and is the same as."""
        found = []
        first = max(np.searchsorted(self._begins, offset, side="right") - 1, 0)
        last = np.searchsorted(self._begins, offset + len(sound.words), side="left")
        for index in range(first, min(last, len(self._lengths))):
            begin = max(offset, self._begins[index])
            end = min(offset + len(sound.words), self._begins[index + 1])
            own = slice(begin - offset, end - offset)
            heard = self._is_heard[begin:end] & sound.is_heard[own]
            seconds = float(heard.sum() * HOP / SAMPLING_RATE)
            if seconds < MIN_SECONDS:
                continue
            differing = np.bitwise_count((self._words[begin:end] ^ sound.words[own])[heard])
            errors = float(differing.mean() / NUM_BITS)
            if errors <= MAX_BIT_ERRORS:
                found.append(Match(index, errors, seconds))
        return found


_MIN_VOTES = 3
_MAX_OFFSETS = 64


def _keys(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both halves of each word as numbers below 2**17, the second above the first."""
    return (words & 0xFFFF).astype(np.int64), (words >> 16).astype(np.int64) + 2**16
