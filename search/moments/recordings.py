"""The recordings that queries name, in a folder or in an index, and their windows."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from modeling_atri.audio_io import find_sounds
from modeling_atri.encode import AudioFailure
from modeling_atri.files import normalized_name

from ..windows import encode_windows, plan_windows
from .evaluation import RecordingWindows


if TYPE_CHECKING:
    from modeling_atri import AtriModel, AtriProcessor

    from ..sound_index import SoundIndex


@dataclass
class RecordingSource:
    """Recordings with their windows.

    Args:
        recordings: The windows of each recording, which can be gone through once.
        window_s, hop_s: Length of a window and distance between the starts of two, in seconds.
        failures: Reasons why recordings could not be read, by name. It is filled while `recordings` is gone through.
    """

    recordings: Iterator[RecordingWindows]
    window_s: float
    hop_s: float
    failures: dict[str, str]


def folder_recordings(
    model: "AtriModel",
    processor: "AtriProcessor",
    folder: str | Path,
    vids: Iterable[str],
    window_s: float | None = None,
    hop_s: float | None = None,
    batch_size: int = 16,
    skip: bool = False,
    progress: bool = False,
) -> RecordingSource:
    """The recordings that are named, of a folder of sounds, encoded while they are gone through.

    Args:
        model, processor: Model with an audio tower, and its processor.
        folder: It is searched with all folders below it.
        vids: Names of recordings: file names with or without suffix, or paths below the folder.
        window_s, hop_s: See [`~search.windows.plan_windows`].
        batch_size: Windows per forward pass.
        skip: Leave out recordings that are missing or cannot be read, instead of raising.
        progress: Show a progress bar.

    Raises:
        ValueError: The folder or a recording is missing, a name fits several files, or a length is wrong.
    """
    sounds = find_sounds(folder)
    failures: dict[str, str] = {}
    paths = named_recordings(vids, sounds, f"the folder {str(folder)!r}", failures if skip else None)
    plan = plan_windows(model, processor, window_s, hop_s)

    def encoded() -> Iterator[RecordingWindows]:
        results = encode_windows(
            model,
            processor,
            [sounds[path].path for path in paths.values()],
            plan,
            names=list(paths.values()),
            batch_size=batch_size,
            on_error="skip" if skip else "raise",
        )
        for vid, result in zip(tqdm(paths, desc="recordings", disable=not progress), results, strict=True):
            if isinstance(result, AudioFailure):
                failures[vid] = result.reason
            else:
                yield RecordingWindows(vid, result.spans, result.vectors)

    return RecordingSource(encoded(), plan.window_s, plan.hop_s, failures)


def index_recordings(
    index: "SoundIndex", vids: Iterable[str], skip: bool = False, progress: bool = False
) -> RecordingSource:
    """The recordings that are named, of an index, whose windows are read while they are gone through.

    Args:
        index: It must have windows, so its model must have an audio tower.
        vids: Names of recordings: file names with or without suffix, or paths as the index has them.
        skip: Leave out recordings that are missing, instead of raising.
        progress: Show a progress bar.

    Raises:
        ValueError: A recording is missing, or a name fits several sounds.
    """
    from ..index.tables import OF_MOMENTS, VECTOR, SoundKey, all_of, of_sounds, vector_values

    tables = index.tables
    rows = tables.files(["folder", "path"]).to_pylist()
    keys = {f"{row['folder']}/{row['path']}".lstrip("/"): SoundKey(row["folder"], row["path"]) for row in rows}
    failures: dict[str, str] = {}
    paths = named_recordings(vids, keys, f"the index {tables.path!r}", failures if skip else None)

    def read() -> Iterator[RecordingWindows]:
        for vid, name in tqdm(paths.items(), desc="recordings", disable=not progress):
            of_one = all_of(OF_MOMENTS, of_sounds([keys[name]]))
            windows = tables.rows(of_one, ["start_s", "end_s", VECTOR]).sort_by("start_s")
            spans = list(zip(windows["start_s"].to_pylist(), windows["end_s"].to_pylist(), strict=True))
            yield RecordingWindows(vid, spans, vector_values(windows[VECTOR]))

    facts = tables.facts
    return RecordingSource(read(), facts.window_s or 0.0, facts.hop_s or 0.0, failures)


def named_recordings(
    vids: Iterable[str], paths: Iterable[str], place: str, failures: dict[str, str] | None = None
) -> dict[str, str]:
    """The path of each recording that is named.

    Args:
        vids: Names: paths, or their last parts, with or without suffix.
        paths: Paths of sounds, with `/`.
        place: What holds the sounds, for messages.
        failures: Where names that fit no path are noted. Default: they are an error.

    Returns:
        The path for each name, in the order of their first occurrence.

    Raises:
        ValueError: A name fits no path, or several. The message names the first ones.
    """
    fitting: dict[str, list[str]] = {}
    for path in paths:
        parts = path.split("/")
        for first in range(len(parts)):
            for name in dict.fromkeys(["/".join(parts[first:]), _without_suffix("/".join(parts[first:]))]):
                fitting.setdefault(name, []).append(path)
    found: dict[str, str] = {}
    missing: list[str] = []
    for vid in dict.fromkeys(vids):
        fits = fitting.get(normalized_name(vid).lstrip("/"), [])
        if len(fits) > 1:
            raise ValueError(
                f"The recording {vid!r} may be any of these in {place}: {', '.join(map(repr, fits[:3]))}. Give its "
                "path in `vid`, or keep one of them."
            )
        if fits:
            found[vid] = fits[0]
        else:
            missing.append(vid)
    if failures is not None:
        failures.update((vid, f"it is not in {place}") for vid in missing)
    elif missing:
        shown = f"{', '.join(map(repr, missing[:3]))}{' ...' if len(missing) > 3 else ''}"
        raise ValueError(
            f"{len(missing)} of {len(found) + len(missing)} recordings are not in {place}: {shown}. A recording is "
            "found by its file name, with or without its suffix. Add them, or remove their queries."
        )
    return found


def _without_suffix(path: str) -> str:
    head, dot, suffix = path.rpartition(".")
    return head if dot and head and "/" not in suffix and not head.endswith("/") else path
