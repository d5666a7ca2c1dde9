"""Files that were renamed or moved since they were encoded, recognised by their content."""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ..audio_io.discovery import FoundSound, SoundSearch
from ..embedding_store.store import Clip
from ..files import content_digest, normalized_name
from ..threads_atri import default_num_workers


def find_moved(
    stale: Mapping[str, Clip], search: SoundSearch, current: Collection[str], num_workers: int | None
) -> dict[str, Clip]:
    """The new clips of files that are gone from where they were, by their ids in the store.

    Only new files of the size of such a file are read, though not decoded. If several new files have its content, one
    of them takes its embedding. A copy of a file that is still there is a file of its own.

    Args:
        stale: clips whose file is gone or has changed, by id.
        search: what the folder holds.
        current: ids of files that have an embedding.
        num_workers: threads that read files. Default: one for each core except one.
    """
    gone: dict[tuple[int, str], list[str]] = {}
    for stored_name, clip in stale.items():
        if clip.content is not None and normalized_name(stored_name) not in search.sounds:
            gone.setdefault((clip.size, clip.content), []).append(stored_name)
    sizes = {size for size, _ in gone}
    new = [name for name in sorted(search.sounds) if name not in current and search.sounds[name].size in sizes]
    workers = max(1, default_num_workers() if num_workers is None else num_workers)
    with ThreadPoolExecutor(workers) as pool:
        contents = list(pool.map(digest_if_unchanged, (search.sounds[name] for name in new)))
    moved = {}
    for name, content in zip(new, contents, strict=True):
        sound = search.sounds[name]
        if content is not None and (names := gone.get((sound.size, content))):
            before = names.pop(0)
            moved[before] = replace(stale[before], id=name, mtime_ns=sound.mtime_ns)
    return moved


def digest_if_unchanged(sound: FoundSound) -> str | None:
    """The digest of a file; None if it cannot be read, or has changed since it was found.

    Call it after the file was read for its embedding, which is that of this content then.
    """
    try:
        content, status = content_digest(sound.path), sound.path.stat()
    except OSError:  # the attempt to encode it says why
        return None
    return content if (status.st_size, status.st_mtime_ns) == (sound.size, sound.mtime_ns) else None
