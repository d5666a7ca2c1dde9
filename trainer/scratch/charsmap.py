"""SentencePiece's table of character normalisation (NFKC and plain spaces), built from Python's Unicode data.

When `NllbTokenizer` is saved and loaded, it keeps only one kind of normaliser: a `precompiled_charsmap`, the table
that SentencePiece writes into its models. `tokenizers` can read such a table, but cannot write one.

The table consists of the size of a trie in bytes (uint32), the trie, and the replacements as UTF-8 strings that end in
NUL. The trie is a double array as in Darts-clone (https://github.com/s-yata/darts-clone). Its units (uint32) contain
    bits 0-7    the byte that leads to this unit
    bit  8      whether a key ends here; the child under byte 0 is then a leaf
    bits 10-30  the block of the children, xor the position of this unit; a child is at its block xor its byte
A leaf is bit 31 with the position of the replacement. All numbers are little endian.
"""

import struct
import sys
import unicodedata
from collections import deque
from functools import cache


_LEAF = 1 << 31
_HAS_LEAF = 1 << 8
_BLOCK_SHIFT = 10
_SEARCHED_UNITS = 512  # how far back gaps are searched; more is slower and hardly saves space
# `tokenizers` looks up single characters, and clusters (such as a letter with its accents) up to this length.
_MAX_CLUSTER_BYTES = 5
_INVISIBLE = "\u00ad\u200b\u2060\ufeff"  # soft hyphen, zero-width space, word joiner, byte order mark


@cache
def nfkc_charsmap() -> bytes:
    """The table that normalises text to NFKC, replaces white space by plain spaces, and drops invisible characters."""
    positions: dict[str, int] = {}
    strings = bytearray()
    keys: dict[bytes, int] = {}
    for source, target in _replacements().items():
        if target not in positions:
            positions[target] = len(strings)
            strings += target.encode() + b"\0"
        keys[source.encode()] = positions[target]
    units = _double_array(keys)
    return struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + bytes(strings)


def _replacements() -> dict[str, str]:
    """Replacements of single characters, and of letters followed by marks that they compose with."""
    replacements = {}
    for character in map(chr, range(1, sys.maxunicode + 1)):
        if unicodedata.category(character) in ("Cn", "Cs"):  # unassigned; halves of surrogate pairs
            continue
        normal = unicodedata.normalize("NFKC", character)
        for source in (character, unicodedata.normalize("NFD", character)):
            if source != normal and len(source.encode()) <= _MAX_CLUSTER_BYTES:
                replacements[source] = normal
    white_space = [character for character in map(chr, range(1, 0x3001)) if character.isspace() and character != " "]
    return replacements | dict.fromkeys(white_space, " ") | dict.fromkeys(_INVISIBLE, "")


def _double_array(keys: dict[bytes, int]) -> list[int]:
    """Lay out the trie of the keys in one array, breadth first, with each block of children in a gap near the end."""
    units = {0: 0}
    used_blocks = set()
    last = 0
    queue = deque([(0, _trie(keys))])
    while queue:
        position, children = queue.popleft()
        block = max(1, last - _SEARCHED_UNITS)
        # Two nodes must not share a block: the children of one would be found under the other.
        while block in used_blocks or any(block ^ byte in units for byte in children):
            block += 1
        used_blocks.add(block)
        units[position] |= (position ^ block) << _BLOCK_SHIFT | (_HAS_LEAF if 0 in children else 0)
        for byte, child in children.items():
            if byte == 0:
                units[block] = _LEAF | child
            else:
                units[block ^ byte] = byte
                queue.append((block ^ byte, child))
            last = max(last, block ^ byte)
    return [units.get(position, 0) for position in range(last + 1)]


def _trie(keys: dict[bytes, int]) -> dict:
    """Nested dicts by byte. The value of a key is under byte 0, which no key contains."""
    root: dict = {}
    for key, value in sorted(keys.items()):
        node = root
        for byte in key:
            node = node.setdefault(byte, {})
        node[0] = value
    return root


__all__ = ["nfkc_charsmap"]
