"""Where models and data sets come from: paths on this machine, or ids of repositories on the Hugging Face Hub."""

import os
import re


_HUB_ID = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*")
_FILE_SUFFIXES = (".bin", ".json", ".jsonl", ".pt", ".pth", ".safetensors")


def is_hub_id(name: str, needs_owner: bool = True) -> bool:
    """Whether a name can be the id of a Hub repository, `owner/name`. The Hub is not asked whether it exists.

    Existing paths and names with the suffix of a data or weight file are not Hub ids. With `needs_owner=False`, names
    without an owner (`bert-base-uncased`) are accepted too: a few old repositories have one.
    """
    has_form = _HUB_ID.fullmatch(name) is not None and ("/" in name or not needs_owner)
    return has_form and not name.endswith(_FILE_SUFFIXES) and not os.path.exists(name)


def check_source(name_or_path: str | os.PathLike, kind: str = "folder", needs_owner: bool = True) -> str:
    """Return the name as a string, if it is an existing path or can be a Hub id.

    Without this check, the Hub would be asked for every mistyped path, which can take a minute to fail. With another
    `kind` than `"folder"`, such as `"file or folder"`, files are accepted too.

    Raises:
        ValueError: there is no such path, and the name is not a Hub id.
    """
    name = os.fspath(name_or_path)
    exists = os.path.isdir(name) if kind == "folder" else os.path.exists(name)
    if not exists and not is_hub_id(name, needs_owner):
        raise missing_source(name, kind)
    return name


def missing_source(name: str, kind: str) -> ValueError:
    """The error for a name that is neither a path of this kind nor a Hub id."""
    return ValueError(
        f"There is no {kind} {name!r}, and it is not a Hub id (owner/name) either. Check the path, or pass a Hub id."
    )


def public_name(name_or_path: str | os.PathLike) -> str:
    """The name to publish for a source: a Hub id as it is, and the last part of a local path."""
    name = os.fspath(name_or_path)
    return name if is_hub_id(name, needs_owner=False) else os.path.basename(os.path.abspath(name))
