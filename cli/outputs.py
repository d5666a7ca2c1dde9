"""Checks of where results go, before the work that may take hours."""

import os
from pathlib import Path


def check_output_folder(path: str) -> None:
    """Raise a ValueError unless there is such a folder that can be written to, or it can be made."""
    place = next(place for place in (Path(path), *Path(path).absolute().parents) if os.path.exists(place))
    if not place.is_dir():
        raise ValueError(f"Results cannot be written to {path!r}, because {str(place)!r} is a file. Name a folder.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(
            f"Results cannot be written to {path!r}, because the folder {str(place)!r} is not writable. Name another "
            "folder, or change its permissions."
        )


def check_output_file(path: str) -> None:
    """Raise a ValueError unless a file of this name can be written, as far as its folder shows."""
    if os.path.exists(path) and not os.path.isfile(path):
        kind = "a folder" if os.path.isdir(path) else "no regular file"  # a device would be replaced by a file
        raise ValueError(f"Results cannot be written to {path!r}, because it is {kind}. Name a file.")
    check_output_folder(os.path.dirname(path) or ".")
