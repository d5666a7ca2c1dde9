"""The page as a Space on the Hub: a copy of the index, its sounds, and the files that serve them there."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from modeling_atri import __version__
from modeling_atri.hub_cards import make_space_card
from modeling_atri.hub_cards.repositories import Publication, push_files
from modeling_atri.sources import is_hub_id

from ..index.nearest.upkeep import refresh
from ..index.tables import LOCK_NAME, IndexTables, SoundKey
from .blocks import import_gradio
from .media import UnavailableSoundError, local_file


INDEX, SOUNDS = "index", "sounds"  # folders of the Space
MAX_GB = 1.0  # what the Hub keeps for the repository of a Space
_APP = '''\
"""Serves the page of `modeling_atri` for the index beside this file."""

import os
from pathlib import Path

from modeling_atri.search import SoundIndex
from modeling_atri.search.page import serve


os.chdir(Path(__file__).resolve().parent)  # the index has the paths of its sounds from here on
index = SoundIndex.open("index")
index.model.load()
host, port = os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"), int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
serve(index, host, port, on_ready=lambda url: print(f"Serving at {url}", flush=True))
'''
_REQUIREMENTS = f"""\
--extra-index-url https://download.pytorch.org/whl/cpu
modeling_atri[av,search]=={__version__}
"""


def publish_space(
    index: str | PathLike[str],
    repo_id: str,
    *,
    model: str | None = None,
    title: str | None = None,
    with_sounds: bool = True,
    sounds: str | None = None,
    follow_links: bool = False,
    max_gb: float = MAX_GB,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = "Upload search page",
    create_pr: bool = False,
) -> Publication:
    """Push the page of an index to a Space, with a copy of the index, its sounds and a card, in one commit.

    The copy holds the present rows without their history, and instead of the folders of this machine the folder
    `sounds` of the Space. The files of an earlier push are removed.

    Args:
        index (`str` or `os.PathLike`): the index.
        repo_id (`str`): `owner/name` of the Space, or `name` in your own account. It is created if it does not exist.
        model (`str`, *optional*): Hub id of the model, from which the Space loads it. Default: the model that the
            index notes.
        title (`str`, *optional*): title of the Space. Default: its name.
        with_sounds (`bool`, *optional*, defaults to `True`): whether to push the sounds. Without them, the page lists
            what it finds and plays nothing.
        sounds (`str`, *optional*): folder that holds the sounds now, if it is not the one that was indexed.
        follow_links (`bool`, *optional*, defaults to `False`): whether to push files outside the indexed folder that
            links in it lead to.
        max_gb (`float`, *optional*, defaults to 1.0): largest size of index and sounds, in gigabytes.
        private, token, revision, commit_message, create_pr: see [`~modeling_atri.hub_cards.publish`].

    Raises:
        ValueError: there is no such index or it is empty, its model is not on the Hub, a sound is missing, the files
            are too large, or the Hub refuses the push.
        ConnectionError: as in [`~modeling_atri.hub_cards.publish`].
        ImportError: Gradio or LanceDB is not installed.
    """
    name = title or repo_id.rpartition("/")[2]
    with space_files(index, name, model, with_sounds, sounds, follow_links, max_gb) as files:
        return push_files(
            lambda repo_id: files,
            repo_id,
            is_replaced=lambda path: path.startswith((f"{INDEX}/", f"{SOUNDS}/")),
            repo_type="space",
            private=private,
            token=token,
            revision=revision,
            commit_message=commit_message,
            create_pr=create_pr,
        )


@contextmanager
def space_files(
    index: str | PathLike[str],
    title: str,
    model: str | None = None,
    with_sounds: bool = True,
    sounds: str | None = None,
    follow_links: bool = False,
    max_gb: float = MAX_GB,
) -> Iterator[dict[str, Path | bytes]]:
    """All that [`publish_space`] pushes: file or content, by path in the repository, while the block runs."""
    gradio = import_gradio()
    tables = IndexTables.open(index)
    model = _hub_model(tables, model)
    keys = [SoundKey(*key) for key in zip(*tables.files(["folder", "path"]).to_pydict().values(), strict=True)]
    if not keys:
        raise ValueError(f"The index {tables.path!r} has no sounds. `atri index` adds some.")
    folders = _folders(sorted({key.folder for key in keys}), with_sounds)
    files: dict[str, Path | bytes] = {}
    if with_sounds:
        files = {f"{folders[key.folder]}/{key.path}": path for key, path in _found(keys, sounds, follow_links).items()}
        _check_size(files, max_gb)
    with TemporaryDirectory() as temporary:
        copy = Path(temporary, INDEX)
        _copy_index(tables, copy, replace(tables.facts, model=model), folders)
        files |= {
            path.relative_to(temporary).as_posix(): path
            for path in sorted(copy.rglob("*"))
            if path.is_file() and not path.name.startswith(LOCK_NAME)
        }
        _check_size(files, max_gb)
        card = make_space_card(
            title, [model], list(tables.facts.languages), sdk_version=gradio.__version__, app_file="app.py"
        )
        texts = {"README.md": str(card), "app.py": _APP, "requirements.txt": _REQUIREMENTS}
        yield {**{name: text.encode() for name, text in texts.items()}, **files}


def _hub_model(tables: IndexTables, model: str | None) -> str:
    name = model or tables.facts.model
    if name is None or not is_hub_id(name):
        raise ValueError(
            f"A Space loads its model from the Hub, but {name or 'the model of the index'!r} is not a Hub id. Push "
            "the model first, `atri push FOLDER owner/name`, then name it with --model owner/name."
        )
    return name


def _folders(indexed: list[str], with_sounds: bool) -> dict[str, str]:
    """The folder in the Space of each indexed folder. Several folders keep their own names."""
    if len(indexed) == 1:
        return {indexed[0]: SOUNDS if with_sounds else ""}
    names = [folder.rstrip("/").rpartition("/")[2] for folder in indexed]
    if len(set(names)) < len(names) or "" in names:
        names = [f"{number}-{name}".rstrip("-") for number, name in enumerate(names, 1)]
    return {folder: f"{SOUNDS}/{name}" if with_sounds else name for folder, name in zip(indexed, names, strict=True)}


def _found(keys: list[SoundKey], sounds: str | None, follow_links: bool) -> dict[SoundKey, Path]:
    """The files of all sounds."""
    found, problems = {}, []
    for key in keys:
        try:
            found[key] = local_file(key, sounds, follow_links)
        except UnavailableSoundError as error:
            problems.append(str(error))
    if problems:
        raise ValueError(
            f"{len(problems)} of the {len(keys)} sounds cannot be pushed, such as: {problems[0]} Run `atri index` "
            "again to bring the index up to date, name the folder of the sounds with --sounds, or push without them "
            "(--without_sounds)."
        )
    return found


def _check_size(files: Mapping[str, Path | bytes], max_gb: float) -> None:
    size_gb = sum(len(file) if isinstance(file, bytes) else file.stat().st_size for file in files.values()) / 1e9
    if size_gb > max_gb:
        raise ValueError(
            f"Index and sounds have {size_gb:.1f} GB or more, but the Space may have {max_gb:g} GB. Push without the "
            "sounds (--without_sounds), index fewer or compressed sounds, or raise --max_gb if the Hub keeps more for "
            "your Space."
        )


def _copy_index(tables: IndexTables, path: Path, facts: Any, folders: Mapping[str, str]) -> None:
    """Write the rows of an index to a new one, with other names of the folders."""
    rows = tables.rows()
    before = rows["folder"].to_pylist()
    ids = [folders[old] + name[len(old) :] for old, name in zip(before, rows["id"].to_pylist(), strict=True)]
    for name, values in {"folder": [folders[old] for old in before], "id": ids}.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(name), pa.array(values, pa.string()))
    copy = IndexTables.create(path, facts)
    with copy.writing():
        copy.ensure_columns(tables.columns)
        copy.windows.add(rows.select(copy.windows.schema.names))
        refresh(copy, is_thorough=True)
