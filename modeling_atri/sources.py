"""Where models and data sets come from: paths on this machine, or ids of repositories on the Hugging Face Hub."""

import os
import re
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import NamedTuple
from urllib.parse import unquote


_HUB_ID = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*")
_FILE_SUFFIXES = (
    *(".bin", ".json", ".jsonl", ".pt", ".pth", ".safetensors", ".csv", ".parquet", ".arrow"),
    *(".tar", ".tar.gz", ".tgz", ".zip"),
)
_REVISION = r"(?:@(?P<revision>refs(?:/|%2F)(?:convert|pr)(?:/|%2F)[^/:]+|[^/:]+))?"
_HUB_DATASET = re.compile(rf"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*){_REVISION}(?::(?P<subset>[^/:]+))?")
_HUB_URL = re.compile(rf"hf://datasets/(?P<repo>[^/@]+/[^/@]+){_REVISION}(?:/(?P<files>.+))?")
_WEB_PAGE = re.compile(
    r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/datasets/(?P<repo>[^/?#]+/[^/?#]+)"
    r"(?:/(?:tree|blob|resolve)/(?P<revision>refs(?:/|%2F)(?:convert|pr)(?:/|%2F)[^/?#]+|[^/?#]+)(?:/(?P<files>[^?#]+))?"
    r"|/viewer(?:/(?P<subset>[^/?#]+))?.*)?/?(?:[?#].*)?"
)


class HubDataset(NamedTuple):
    """A data set on the Hub, or some of its files.

    Args:
        repo: Id of the repository, `owner/name`.
        revision: Branch, tag or commit; None for `main`.
        subset: Configuration; None if it is not named.
        files: Path of a file or folder in the repository, or a pattern; None for the whole data set.
    """

    repo: str
    revision: str | None = None
    subset: str | None = None
    files: str | None = None


def parse_hub_dataset(name: str) -> HubDataset | None:
    """Take apart a name of a data set on the Hub; None if it has another form, or is an existing path.

    The forms are `owner/name`, `owner/name:subset`, `owner/name@revision`, `hf://datasets/owner/name@revision/files`
    and the address of the data set's page.
    """
    patterns = (_HUB_URL, _WEB_PAGE, _HUB_DATASET)
    match = next((match for pattern in patterns if (match := pattern.fullmatch(name))), None)
    if match is None or (match.re is _HUB_DATASET and not is_hub_id(match["repo"])):
        return None
    found = {key: value and unquote(value) for key, value in match.groupdict().items()}
    return HubDataset(**found)


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
    if advice := path_advice(name):
        return ValueError(f"There is no {kind} {name!r}. {advice}")
    return ValueError(
        f"There is no {kind} {name!r}, and it is not a Hub id (owner/name) either. Check the path, or pass a Hub id."
    )


def path_advice(name: str) -> str:
    """A sentence about a path that is not there, or is a file in place of a folder; empty if nothing is known."""
    if os.path.exists(name):
        return "It is a file: name a folder."
    if near := nearest_path(name):
        return f"Did you mean {near!r}?"
    parent = os.path.dirname(name.rstrip("/"))
    try:
        names = sorted(os.listdir(parent)) if parent else []
    except OSError:  # it does not exist either, or may not be listed
        names = []
    held = f"{', '.join(names[:5])}{' and more' if len(names) > 5 else ''}"
    return f"The folder {parent!r} holds {held}." if names else ""


def nearest_path(name: str, cutoff: float = 0.6) -> str | None:
    """The existing path that `name` may be a mistyped form of, part by part; None if there is none.

    Args:
        name: A path.
        cutoff: How similar a part must be, from 0 to 1, as in `difflib.get_close_matches`.
    """
    path = PurePath(name)
    found = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        try:
            siblings = os.listdir(found) if found.is_dir() else []
        except OSError:  # the folder may not be listed
            siblings = []
        similar = [part] if (found / part).exists() else get_close_matches(part, siblings, n=1, cutoff=cutoff)
        if not similar:
            return None
        found /= similar[0]
    return None if found == Path(name) else str(found)


def public_name(name_or_path: str | os.PathLike) -> str:
    """The name to publish for a source: a Hub id as it is, and the last part of a local path."""
    name = os.fspath(name_or_path)
    return name if is_hub_id(name, needs_owner=False) else os.path.basename(os.path.abspath(name))
