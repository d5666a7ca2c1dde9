"""Where the results of checks are kept: beside the data, or in another folder."""

import hashlib
import os
from pathlib import Path


CACHE_VARIABLE = "ATRI_ROWS_CACHE"
FOLDER_NAME = ".atri_rows"
_OFF = ("0", "off", "false", "no")
_README = f"""\
Checked rows of the data set beside this folder. The package modeling_atri wrote them (`load_rows`, `atri train`), so
that later runs need not check them again. The folder can be deleted at any time. {CACHE_VARIABLE}=off turns this off,
and {CACHE_VARIABLE}=FOLDER puts it elsewhere.
"""


def cache_folder(source: Path) -> Path | None:
    """The folder for results about a file or folder of rows, which is created; None if nothing is kept.

    It is what the environment variable `ATRI_ROWS_CACHE` names, with a subfolder for each folder of data, or else
    `.atri_rows` beside the file, or, if that cannot or must not be written, a subfolder of `~/.cache/atri/rows`. With
    `ATRI_ROWS_CACHE=off`, nothing is kept.
    """
    beside = source if source.is_dir() else source.parent
    chosen = os.environ.get(CACHE_VARIABLE, "").strip()
    if chosen.lower() in _OFF and chosen:
        return None
    name = hashlib.blake2b(str(beside.resolve()).encode(errors="surrogateescape"), digest_size=8).hexdigest()
    users = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "atri" / "rows"
    if chosen:
        places = [Path(chosen).expanduser() / name]
    else:
        places = [beside / FOLDER_NAME, users / name] if _is_meant_to_be_written(beside) else [users / name]
    return next((place for place in places if _is_writable(place)), None)


def _is_meant_to_be_written(folder: Path) -> bool:
    """Whether its mode lets anybody write. The superuser could also write elsewhere."""
    return bool(folder.stat().st_mode & 0o222)


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("README.txt", _README), (".gitignore", "*\n")):
            if not (folder / name).exists():
                (folder / name).write_text(text, encoding="utf-8")
    except OSError:  # a folder that may only be read, or a full disk
        return False
    return os.access(folder, os.W_OK)
