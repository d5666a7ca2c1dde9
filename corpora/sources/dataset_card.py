"""Configurations of a data set, as the `configs` of its README say which files are in which split."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard

from .layout import UNNAMED, find_splits


def read_configs(readme: Path) -> dict[str, dict[str, Any]]:
    """Read the `configs` of a README by their names. Empty if there is no README, or it has none.

    Raises:
        ValueError: if they are not as the Hub describes them.
    """
    if not readme.is_file():
        return {}
    try:
        configs = DatasetCard.load(readme).data.to_dict().get("configs") or []
        return {str(config["config_name"]): config for config in configs}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"The `configs` at the top of {readme} cannot be read ({error!r}). Correct its YAML."
        ) from error


def find_subset_splits(
    names: Sequence[str], configs: Mapping[str, Mapping[str, Any]], subset: str | None, source: str
) -> dict[str, list[str]]:
    """Find the files that hold rows, by split, as `find_splits` does, of one configuration.

    Args:
        names: Files as paths relative to the repository.
        configs: What `read_configs` returned. Without any, a subset is a folder.
        subset: Configuration. None takes the only one, or the default.
        source: Name of the data set, for messages.

    Raises:
        ValueError: if there is no such configuration, or one of several must be named.
    """
    if not configs:
        if subset in (None, "default"):
            return find_splits(names)
        below = [name for name in names if name.startswith(f"{subset}/")]
        if not below:
            raise ValueError(f"{source} has no subset {subset!r}: neither its README nor a folder has this name.")
        return _with_folder(str(subset), find_splits(name[len(str(subset)) + 1 :] for name in below))
    config = configs[_pick(configs, subset, source)]
    folder = str(config.get("data_dir") or "").strip("./")
    if folder:
        names = [name[len(folder) + 1 :] for name in names if name.startswith(f"{folder}/")]
    patterns = config.get("data_files")
    if patterns is None:
        return _with_folder(folder, find_splits(names))
    splits = {split: _rows_among(names, of_split) for split, of_split in _patterns(patterns).items()}
    return _with_folder(folder, {split: files for split, files in splits.items() if files})


def _pick(configs: Mapping[str, Mapping[str, Any]], subset: str | None, source: str) -> str:
    defaults = [name for name, config in configs.items() if len(configs) == 1 or config.get("default")]
    default = next(iter(defaults), "default" if "default" in configs else None)
    picked = default if subset is None else subset
    if picked not in configs:
        raise ValueError(
            f"{source} has the subsets {', '.join(configs)}: please name one as `subset` (got {subset!r}), or after a "
            "colon (`owner/name:subset`)."
        )
    return str(picked)


def _patterns(data_files: Any) -> dict[str, list[str]]:
    """The patterns of each split. Without splits, all files are one that has no name."""
    items = data_files if isinstance(data_files, list) else [data_files]
    found: dict[str, list[str]] = {}
    for item in items:
        split, paths = (item["split"], item["path"]) if isinstance(item, dict) else (UNNAMED, item)
        found.setdefault(str(split), []).extend(paths if isinstance(paths, list) else [paths])
    return found


def _rows_among(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    matches = [re.compile(glob_expression(pattern.removeprefix("./"))) for pattern in patterns]
    found = [name for name in names if any(match.fullmatch(name) for match in matches)]
    return [name for files in find_splits(found).values() for name in files]


def _with_folder(folder: str, splits: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {split: [f"{folder}/{name}" if folder else name for name in files] for split, files in splits.items()}


def glob_expression(pattern: str) -> str:
    """A regular expression for a pattern with `*`, `**`, `?` and `[...]`, or for a file or all below a folder."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern.rstrip("/"))
    meanings = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    expression = "".join(
        meanings.get(part) or (part.replace("[!", "[^") if part.startswith("[") and len(part) > 1 else re.escape(part))
        for part in parts
    )
    return expression if len(parts) > 1 else f"{expression}(?:/.*)?"
