"""Recognise recordings by their sound: re-encoded, resampled, at another level, or cut out of one another.

The fingerprint follows Haitsma and Kalker (A Highly Robust Audio Fingerprinting System, ISMIR 2002), with other
parameters. Every 32 ms there is a word of 32 bits. Each bit is the sign of the change, over 128 ms, of the difference
between two neighbouring bands, out of 33 bands between 200 and 3600 Hz. Two recordings are the same sound if, at some
offset, few bits of their words differ.

Of 1.4 million pairs of ESC-10 scenes without a recording in common, none is taken for the same sound: the closest have
44 % differing bits, while a codec at its lowest quality changes at most 19 %. Two recordings of one fire, which its
author published under two numbers, are correctly found to be one (`test_sound_fingerprints.py`). A scene that is mixed
with another, or cut to a part where little changes, may be missed.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from modeling_atri.audio_inputs_atri import opened, unpack_sound
from modeling_atri.audio_io import SAMPLING_RATE


FRAME = 4096  # samples at 16 kHz: 256 ms
HOP = 512  # 32 ms
LAG = 4  # hops between the two frames of a change: half a frame, so that they share few samples
NUM_BITS = 32
LOWEST_HZ, HIGHEST_HZ = 200.0, 3600.0  # within the bandwidth of a recording at 8 kHz
SILENCE_DB = -75.0  # of full scale; below, encoders change everything
MIN_CHANGE_DB = 0.5  # mean over the bits of a word; below, rounding decides the signs
MIN_SHARED_SECONDS = 2.0  # of sound that two recordings must share
_MIN_VOTES = 3  # of words, for an offset to be compared
_MAX_OFFSETS = 64  # that are compared, for each window of a sound and each stretch of the index
_WINDOW = 1024  # words that vote together: 33 s
_MAX_BIT_ERRORS_OF_WINDOW = 0.4  # for the whole sound to be compared, parts of which may be damaged less
_STRETCH = 2**17  # words of the index: 70 min
VERSION = 1  # of the words and the digest: another one makes kept fingerprints again
MAX_BIT_ERRORS = 0.3  # largest share of differing bits of the same sound


class SoundFingerprint(NamedTuple):
    """Fingerprint of a recording.

    Args:
        digest: Hash of the decoded samples at 16 kHz, 32 hexadecimal digits.
        words: `np.uint32` of shape `(num_frames,)`.
        is_heard: `bool` of shape `(num_frames,)`, False in silence and where nothing changes.
    """

    digest: str
    words: np.ndarray
    is_heard: np.ndarray

    @property
    def heard_seconds(self) -> float:
        """Length of the parts in which something is heard."""
        return float(self.is_heard.sum() * HOP / SAMPLING_RATE)


class Match(NamedTuple):
    """A recording of an index that is the same sound as another.

    Args:
        number: Number of the recording in the index.
        bit_errors: Share of bits that differ, 0 to `MAX_BIT_ERRORS`. For different sounds it is near 0.5.
        seconds: Length of the sound that both share.
    """

    number: int
    bit_errors: float
    seconds: float


def fingerprint(sound: str | os.PathLike[str] | bytes) -> SoundFingerprint:
    """Decode a recording and compute its fingerprint, block by block, so that memory does not depend on its length.

    Raises:
        ValueError: if the recording cannot be read.
    """
    found = unpack_sound(sound)
    with opened(found, SAMPLING_RATE) as (_, blocks):
        return _fingerprint(blocks)


def fingerprint_waveform(waveform: np.ndarray) -> SoundFingerprint:
    """Compute the fingerprint of a waveform `(num_samples,)`, float32, 16 kHz. Below half a second it has no words."""
    return _fingerprint([waveform])


def _fingerprint(blocks: Iterable[np.ndarray]) -> SoundFingerprint:
    digest = hashlib.blake2b(digest_size=16)

    def digested() -> Iterator[np.ndarray]:
        for block in blocks:
            digest.update(np.ascontiguousarray(block).data)
            yield block

    decibels = np.concatenate([np.zeros((0, NUM_BITS + 1), np.float32), *_band_decibels(digested())])
    if len(decibels) <= LAG:
        return SoundFingerprint(digest.hexdigest(), np.zeros(0, np.uint32), np.zeros(0, bool))
    words, is_heard = zip(*(_words(decibels, *part) for part in _parts(len(decibels) - LAG)), strict=True)
    return SoundFingerprint(digest.hexdigest(), np.concatenate(words), np.concatenate(is_heard))


def _parts(length: int, size: int = 2**14) -> Iterator[tuple[int, int]]:
    return ((start, min(start + size, length)) for start in range(0, length, size))


def _words(decibels: np.ndarray, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """The words from `start` to `stop`, and whether something is heard there, from decibels `(num_frames, 33)`."""
    later, earlier = decibels[start + LAG : stop + LAG], decibels[start:stop]
    change = np.diff(later - earlier, axis=1)  # (stop - start, 32)
    words = np.packbits(change > 0, axis=1, bitorder="little").view("<u4")[:, 0].astype(np.uint32)
    is_loud = (later.max(axis=1) > SILENCE_DB) & (earlier.max(axis=1) > SILENCE_DB)
    return words, is_loud & (np.abs(change).mean(axis=1) > MIN_CHANGE_DB)


def _band_decibels(blocks: Iterable[np.ndarray], frames_at_once: int = 1024) -> Iterator[np.ndarray]:
    """Mean power of each band in each frame in dB of full scale, in parts of shape `(frames, 33)`, float32."""
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, NUM_BITS + 2) * FRAME / SAMPLING_RATE
    edges = np.round(edges).astype(int)  # in bins; the first band, the narrowest, is 4 wide
    window = np.hanning(FRAME).astype(np.float32)
    for samples in _overlapping(blocks, frames_at_once):
        frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
        spectrum = np.fft.rfft(frames * window, axis=1)[:, edges[0] : edges[-1]]
        power = spectrum.real**2 + spectrum.imag**2
        bands = np.add.reduceat(power, edges[:-1] - edges[0], axis=1) / np.diff(edges)
        yield (10 * np.log10(bands / (window.sum() / 2) ** 2 + 1e-12)).astype(np.float32)


def _overlapping(blocks: Iterable[np.ndarray], frames_at_once: int) -> Iterator[np.ndarray]:
    """The samples of so many frames after one another, and of the rest, at least one frame."""
    held, size = np.zeros(0, np.float32), (frames_at_once - 1) * HOP + FRAME
    for block in blocks:
        held = np.concatenate([held, block])
        place = 0
        while len(held) - place >= size:
            yield held[place : place + size]
            place += frames_at_once * HOP
        held = held[place:]
    if len(held) >= FRAME:
        yield held


class FingerprintIndex:
    """Index of recordings that finds the same sounds.

    Even after re-encoding, often all bits of one half of a word are unchanged. Candidates are found by halves of
    words, and offsets that several words agree on are compared bit by bit.
    """

    def __init__(self, fingerprints: Sequence[SoundFingerprint]):
        self._lengths = [len(item.words) for item in fingerprints]
        self._begins = np.cumsum([0, *self._lengths])  # of each recording in the concatenation of all words
        self._words = np.concatenate([np.zeros(0, np.uint32), *(item.words for item in fingerprints)])
        self._is_heard = np.concatenate([np.zeros(0, bool), *(item.is_heard for item in fingerprints)])
        self._by_digest: dict[str, list[int]] = {}
        for index, item in enumerate(fingerprints):
            self._by_digest.setdefault(item.digest, []).append(index)
        places = np.flatnonzero(self._is_heard)
        keys = np.concatenate(_keys(self._words[places]))
        order = np.argsort(keys, kind="stable")
        self._places = np.concatenate([places, places])[order]
        self._first = np.searchsorted(keys[order], np.arange(2 * 2**16 + 1))  # place of each key
        # A key that many words have, such as those of steady tones, is expensive and says little.
        self._max_places = max(64, 8 * len(keys) // (2 * 2**16))

    def same_samples(self, sound: SoundFingerprint) -> list[int]:
        """Find the recordings whose decoded samples are exactly the same."""
        return self._by_digest.get(sound.digest, [])

    def find(self, sound: SoundFingerprint) -> list[Match]:
        """Find the recordings that share at least `MIN_SHARED_SECONDS` with a sound, each once, the best first."""
        best: dict[int, Match] = {}
        for offset in self._offsets(sound):
            for match in self._compare(sound, offset):
                if match.number not in best or match.bit_errors < best[match.number].bit_errors:
                    best[match.number] = match
        return sorted(best.values(), key=lambda match: match.bit_errors)

    def _offsets(self, sound: SoundFingerprint) -> list[int]:
        """Candidate positions of the sound's first word in the concatenation of all words.

        The windows of a long sound vote separately, and each stretch of the index has its own best offsets. Otherwise
        the votes that hours of sound give by chance would outnumber those of a damaged copy of a few seconds. Where
        the window itself is another sound, the whole is not compared.
        """
        found: dict[int, None] = {}
        for start in range(0, max(1, len(sound.words) - _WINDOW // 2), _WINDOW // 2):
            window = slice(start, start + _WINDOW)
            part = SoundFingerprint("", sound.words[window], sound.is_heard[window])
            for offset in self._offsets_of_window(sound, start).tolist():
                if offset not in found and self._compare(part, offset + start, _MAX_BIT_ERRORS_OF_WINDOW):
                    found[offset] = None
        return list(found)

    def _offsets_of_window(self, sound: SoundFingerprint, start: int) -> np.ndarray:
        """Candidate positions of the sound's first word, by votes of its words from `start` on."""
        places = start + np.flatnonzero(sound.is_heard[start : start + _WINDOW])
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
        offsets, num_votes = (values[num_votes >= _MIN_VOTES] for values in (offsets, num_votes))
        stretches = (offsets + start) // _STRETCH
        order = np.lexsort((-num_votes, stretches))
        offsets, stretches = offsets[order], stretches[order]
        rank = np.arange(len(offsets)) - np.searchsorted(stretches, stretches)  # within its stretch
        return offsets[rank < _MAX_OFFSETS]

    def _compare(self, sound: SoundFingerprint, offset: int, max_bit_errors: float = MAX_BIT_ERRORS) -> list[Match]:
        """Compare the sound at an offset with the recordings there."""
        found = []
        first = max(int(np.searchsorted(self._begins, offset, side="right")) - 1, 0)
        last = int(np.searchsorted(self._begins, offset + len(sound.words), side="left"))
        for index in range(first, min(last, len(self._lengths))):
            begin = max(offset, self._begins[index])
            end = min(offset + len(sound.words), self._begins[index + 1])
            own = slice(begin - offset, end - offset)
            heard = self._is_heard[begin:end] & sound.is_heard[own]
            seconds = float(heard.sum() * HOP / SAMPLING_RATE)
            if seconds < MIN_SHARED_SECONDS:
                continue
            differing = np.bitwise_count((self._words[begin:end] ^ sound.words[own])[heard])
            errors = float(differing.mean() / NUM_BITS)
            if errors <= max_bit_errors:
                found.append(Match(index, errors, seconds))
        return found


def _keys(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both halves of each word as numbers below 2**17, the second above the first."""
    return (words & 0xFFFF).astype(np.int64), (words >> 16).astype(np.int64) + 2**16
