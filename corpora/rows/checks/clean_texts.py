"""Clean the texts of a column as `clean_caption` does. Only those that may have to be cleaned become Python strings.

Which texts these are is found from the bytes of all texts together, much faster than by looking up what each sign is.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..captions import clean_caption


# Signs of the usual scripts that can be printed, beside ASCII: Latin, Greek, Cyrillic, Japanese, Chinese, Korean.
_PRINTABLE = (
    *((0xA1, 0xAC), (0xAE, 0x377), (0x400, 0x52F)),
    *((0x3001, 0x303F), (0x3041, 0x3096), (0x3099, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFF01, 0xFFBE)),
)


def cleaned_texts(texts: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Strings as `clean_caption` returns them, and which of them are captions; null and empty ones are not.

    Args:
        texts: strings.

    Returns:
        The strings, and an array `(texts,)`, bool.
    """
    ok = np.array(texts.is_valid())
    is_odd = ok & _may_be_odd(texts)
    if not is_odd.any():
        return texts, ok
    others = texts.filter(pa.array(is_odd))
    printable = pc.and_(pc.utf8_is_printable(others), pc.invert(pc.match_substring(others, "&")))
    trimmed = pc.and_(pc.equal(pc.utf8_trim_whitespace(others), others), pc.not_equal(others, ""))
    is_odd[is_odd] = ~np.asarray(pc.and_(printable, trimmed))
    if not is_odd.any():
        return texts, ok
    cleaned = [clean_caption(text) for text in texts.filter(pa.array(is_odd)).to_pylist()]
    ok[is_odd] = [bool(text) and not text.isspace() for text in cleaned]
    return pc.replace_with_mask(texts, pa.array(is_odd), pa.array(cleaned, pa.string())), ok


def _may_be_odd(texts: pa.Array) -> np.ndarray:
    """Which texts are not sure to be clean: they are empty, have a space at an end, `&`, or a sign of another script.

    Returns:
        `(texts,)`, bool; any value for null.
    """
    _, offsets, content = texts.buffers()
    if len(texts) == 0 or content is None:
        return np.ones(len(texts), dtype=bool)
    ends = np.frombuffer(offsets, np.int32, len(texts) + 1, 4 * texts.offset)
    first, last = int(ends[0]), int(ends[-1])
    signs = np.frombuffer(content, np.uint8)[first:last]
    if len(signs) == 0:
        return np.ones(len(texts), dtype=bool)
    ends = ends - first
    odd_places = _odd_signs(signs)
    if odd_places is None:  # not UTF-8, which is reported where texts are looked at
        return np.ones(len(texts), dtype=bool)
    is_odd = ends[1:] == ends[:-1]
    is_odd |= signs[np.minimum(ends[:-1], len(signs) - 1)] == ord(" ")
    is_odd |= signs[ends[1:] - 1] == ord(" ")
    is_odd[np.searchsorted(ends, odd_places, side="right") - 1] = True
    return is_odd


def _odd_signs(signs: np.ndarray) -> np.ndarray | None:
    """Places of the bytes of UTF-8 at which a sign begins that is not sure to be clean; None if it is not UTF-8."""
    plain = (signs < 0x20) | (signs == 0x7F) | (signs == ord("&"))
    odd = [np.flatnonzero(plain)]
    begins = np.flatnonzero(signs >= 0xC0)
    if len(begins) == 0:
        return odd[0] if signs.max() < 0x80 else None
    ends = pa.py_buffer(np.array([0, len(signs)], dtype=np.int64))
    whole = pa.Array.from_buffers(pa.large_string(), 1, [None, ends, pa.py_buffer(signs)])
    try:
        whole.validate(full=True)
    except pa.ArrowInvalid:
        return None
    leads = signs[begins]
    looked_at = begins[_IS_MIXED[leads]]
    leads = signs[looked_at]
    second = signs[looked_at + 1] & 0x3F
    third = signs[np.minimum(looked_at + 2, len(signs) - 1)] & 0x3F
    of_two = (leads & 0x1F).astype(np.int32) << 6 | second
    of_three = (leads & 0xF).astype(np.int32) << 12 | second.astype(np.int32) << 6 | third
    is_clean = np.where(leads < 0xE0, _IS_CLEAN[of_two], _IS_CLEAN[of_three]) & (leads < 0xF0)
    odd.append(looked_at[~is_clean])
    return np.concatenate(odd)


def _clean_codes() -> np.ndarray:
    is_clean = np.zeros(2**16, dtype=bool)
    for first, last in _PRINTABLE:
        is_clean[first : last + 1] = True
    return is_clean


def _mixed_leads(is_clean: np.ndarray) -> np.ndarray:
    """Of each first byte of a sign, whether signs that begin with it are not all clean."""
    is_mixed = np.ones(256, dtype=bool)
    for lead in range(0xC2, 0xE0):
        is_mixed[lead] = not is_clean[(lead & 0x1F) << 6 :][: 2**6].all()
    for lead in range(0xE0, 0xF0):
        is_mixed[lead] = not is_clean[(lead & 0xF) << 12 :][: 2**12].all()
    return is_mixed


_IS_CLEAN = _clean_codes()
_IS_MIXED = _mixed_leads(_IS_CLEAN)
