"""Data sets that are not files of rows: on the Hub, in the formats of `datasets`, or in memory."""

import difflib
import logging
import os
from pathlib import Path, PurePath
from typing import Any

import datasets

from modeling_atri.sources import check_source, is_hub_id, missing_source


logger = logging.getLogger(__name__)


def load_from_hub(name: str, split: str | None) -> datasets.Dataset | datasets.DatasetDict:
    """Load a data set of the Hub. `name` is not an existing path.

    Raises:
        ValueError: if the name is a mistyped path, or the data set cannot be reached.
    """
    similar = _similar_path(name)
    if similar is not None:
        raise ValueError(f"There is no file or folder {name!r}. Did you mean {similar!r}?")
    # Beside an existing folder, a name of the form `folder/name` is taken for a path.
    if not is_hub_id(name) or Path(name).parent.exists():
        raise missing_source(name, "file or folder")
    logger.warning("%r is no file or folder here: looking for a data set of that name on the Hub.", name)
    try:
        return datasets.load_dataset(name, split=split)
    except (FileNotFoundError, ConnectionError) as error:
        raise ValueError(
            f"{name!r} is neither an existing file or folder, nor a data set that can be reached on the Hub ({error})."
        ) from error


def open_dataset(name: str, split: str | None = None, subset: str | None = None) -> datasets.Dataset:
    """Open a data set with columns of any names. Only the split that is named is downloaded.

    Args:
        name: Hub id (`owner/name`), folder of files that `datasets` reads, or folder that `save_to_disk` wrote.
        split (*optional*): Needed where there are several.
        subset (*optional*): Configuration of the data set. Needed where there are several.

    Raises:
        ValueError: if there is no such data set, split or subset, or one of several must be named.
    """
    check_source(name, needs_owner=False)
    is_saved = any((Path(name) / file).exists() for file in ("dataset_info.json", "dataset_dict.json"))
    try:
        loaded = datasets.load_from_disk(name) if is_saved else datasets.load_dataset(name, subset, split=split)
    except (FileNotFoundError, ConnectionError) as error:
        raise ValueError(f"{name!r} is no data set, neither here nor on the Hub: {error}") from error
    except ValueError as error:
        option = "split" if "split" in str(error) else "subset" if "onfig" in str(error) else None
        if option is None:
            raise
        value = {"split": split, "subset": subset}[option]
        raise ValueError(f"{name!r}: please name another `{option}` (got {value!r}): {error}") from error
    return pick_split(loaded, split if is_saved or isinstance(loaded, datasets.DatasetDict) else None, repr(name))


def pick_split(source: Any, split: str | None, name: str = "The data set") -> datasets.Dataset:
    """Return a split of a `DatasetDict`, or the only one there is. A `Dataset` is returned as it is.

    Raises:
        ValueError: if there is no such split, one of several must be named, or `source` is something else.
    """
    if isinstance(source, datasets.Dataset):
        if split is not None:
            raise ValueError(f"{name} has no splits, but `split` is {split!r}: please leave it out.")
        return source
    if not isinstance(source, datasets.DatasetDict):
        raise ValueError(
            "Rows are read from a path, the id of a data set on the Hub, a `datasets.Dataset` or a `DatasetDict`, but "
            f"this is a {type(source).__name__}."
        )
    if split is None and len(source) == 1:
        return next(iter(source.values()))
    if split not in source:
        raise ValueError(f"{name} has the splits {', '.join(source)}: please name one as `split` (got {split!r}).")
    return source[split]


def _similar_path(name: str) -> str | None:
    """The existing path that `name` may be a mistyped form of, part by part."""
    found = Path(PurePath(name).anchor)
    for part in PurePath(name).relative_to(found).parts:
        siblings = os.listdir(found) if found.is_dir() else []
        similar = [part] if (found / part).exists() else difflib.get_close_matches(part, siblings, n=1, cutoff=0.8)
        if not similar:
            return None
        found = found / similar[0]
    return str(found)
