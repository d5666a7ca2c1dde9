"""Sounds and indexes on object storage: addresses such as `s3://bucket/sounds`, and the options to reach them."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeling_atri.audio_io.discovery import FoundSound, SoundSearch
from modeling_atri.files import normalized_name
from modeling_atri.sound_files_atri import OTHER_SOUND_SUFFIXES, SOUND_SUFFIXES


if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_SUFFIXES = frozenset(SOUND_SUFFIXES + OTHER_SOUND_SUFFIXES)
_S3_SCHEMES = ("s3://", "s3a://")
_CONNECT_SECONDS = 10.0
# Options as LanceDB names them, which also serve to read sounds, and the arguments of PyArrow's S3FileSystem.
_S3_ARGUMENTS = {
    "access_key_id": "access_key",
    "secret_access_key": "secret_key",
    "session_token": "session_token",
    "region": "region",
}
# Names of other programs for an option. LanceDB takes an option with or without `aws_` in front.
_OTHER_NAMES = {
    "default_region": "region",
    "endpoint_url": "endpoint",
    "endpoint_url_s3": "endpoint",
    "token": "session_token",
}
_FLAGS = ("allow_http", "skip_signature", "virtual_hosted_style_request")
_FROM_ENVIRONMENT = (*_S3_ARGUMENTS, "default_region", "endpoint", "endpoint_url", "endpoint_url_s3", *_FLAGS)


def is_address(place: str | os.PathLike[str]) -> bool:
    """Whether a place is an address on object storage, such as `s3://bucket/sounds`, and not a path."""
    return "://" in os.fspath(place)


def folder_location(folder: str | os.PathLike[str]) -> str:
    """A folder of sounds as an index notes it: an address without `/` at its end, or an absolute path."""
    place = os.fspath(folder)
    if is_address(place):
        return place if place.endswith("://") else place.rstrip("/")
    return os.path.abspath(os.path.expanduser(place))


def read_options(words: Iterable[str]) -> dict[str, str]:
    """Options of the storage from words of a command line.

    Args:
        words: each an option as `NAME=VALUE`, such as `endpoint=http://127.0.0.1:9000`.

    Raises:
        ValueError: a word has no `=`.
    """
    options = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not (name and sign):
            raise ValueError(
                f"An option of the storage is NAME=VALUE, such as endpoint=http://127.0.0.1:9000; got {word!r}."
            )
        options[name.strip()] = value.strip()
    return options


def storage_options(options: Mapping[str, str] | None = None) -> dict[str, str]:
    """The options with which LanceDB reaches object storage.

    Options that are missing are taken from the variables of the environment that the tools of AWS read
    (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL` and others).
    An endpoint that begins with `http://` allows HTTP.

    Args:
        options: options by the names that LanceDB has, with or without `aws_` in front: `access_key_id`,
            `secret_access_key`, `session_token`, `region`, `endpoint`, `allow_http`, `skip_signature` (for buckets
            that everybody may read), `virtual_hosted_style_request` and others, all as text.

    Returns:
        Options by name. Names that this function knows are without `aws_`.
    """
    found = {}
    for name in _FROM_ENVIRONMENT:
        if value := os.environ.get(f"AWS_{name.upper()}"):
            found[_own_name(name)] = value
    found |= {_own_name(name): str(value) for name, value in (options or {}).items()}
    if found.get("endpoint", "").startswith("http://"):
        found.setdefault("allow_http", "true")
    return found


def lance_options(location: str, options: Mapping[str, str] | None = None) -> dict[str, str] | None:
    """The options with which LanceDB opens an index: None for a folder, completed by [`storage_options`] for S3."""
    if not is_address(location):
        return None  # the options are those of the sounds
    return storage_options(options) if location.startswith(_S3_SCHEMES) else dict(options or {})


def open_storage(address: str, options: Mapping[str, str] | None = None) -> "tuple[FileSystem, str]":
    """The file system of an address, and the path in it.

    Args:
        address: an address that PyArrow can read, such as `s3://bucket/sounds`, `gs://bucket/sounds` or
            `file:///sounds`.
        options: as [`storage_options`] takes them; only for S3.

    Raises:
        ValueError: there is no such kind of storage, or it takes no options.
    """
    from pyarrow import ArrowException, fs

    if address.startswith(_S3_SCHEMES):
        rest = address.partition("://")[2]
        if not rest.strip("/"):
            raise ValueError(f"The address {address!r} names no bucket. Write s3://BUCKET/FOLDER.")
        return fs.S3FileSystem(**_s3_arguments(storage_options(options))), rest.strip("/")
    if options:
        raise ValueError(f"Options of the storage are for s3://, and {address!r} is not on S3. Leave them out.")
    try:
        storage, root = fs.FileSystem.from_uri(address)
    except (ArrowException, OSError) as error:
        raise ValueError(
            f"The address {address!r} cannot be read: {error}. Sounds are read from folders, s3://, gs:// and "
            "other object storage that PyArrow reads."
        ) from error
    return storage, root.rstrip("/")


def object_names(address: str, options: Mapping[str, str] | None = None) -> frozenset[str]:
    """The names of the objects in a folder of object storage; none if there is no such folder.

    Args:
        address: of the folder.
        options: as [`storage_options`] takes them; only those for S3 are used.

    Raises:
        ValueError: PyArrow does not read this kind of storage.
        OSError: the folder cannot be listed.
    """
    from pyarrow import fs

    storage, root = open_storage(address, options if address.startswith(_S3_SCHEMES) else None)
    found = storage.get_file_info(fs.FileSelector(root, allow_not_found=True))
    return frozenset(info.base_name for info in found)


def search_address(address: str, options: Mapping[str, str] | None = None) -> SoundSearch:
    """The sounds below an address, as `search_folder` finds those below a folder.

    Objects and folders whose names begin with a dot are left out.

    Args:
        address: of a folder, such as `s3://bucket/sounds`.
        options: as [`storage_options`] takes them.

    Raises:
        ValueError: the storage cannot be reached, there is no such folder, or no sound in it.
    """
    from pyarrow import ArrowException, fs

    address = folder_location(address)
    storage, root = open_storage(address, options)
    try:
        found = storage.get_file_info(fs.FileSelector(root, recursive=True))
    except FileNotFoundError as error:
        raise ValueError(f"There is no folder {address!r}.") from error
    except (ArrowException, OSError) as error:
        reason = re.sub(r" \(Request ID: .*?\)", "", str(error)).rstrip(".")
        raise ValueError(
            f"The folder {address!r} cannot be listed: {reason}. Check its name, and the region, the endpoint and the "
            "keys of the storage (AWS_REGION, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)."
        ) from error
    search = SoundSearch()
    files = {info.path[len(root) :].lstrip("/"): info for info in found if info.type == fs.FileType.File}
    # Of two names that are equal in form NFC, the one that is written so comes first.
    for place in sorted(files, key=lambda place: (place != normalized_name(place), place)):
        if not any(part.startswith(".") for part in place.split("/")):
            info = files[place]
            _add(search, place, FoundSound(Path(f"{address}/{place}"), info.size, info.mtime_ns or 0))
    if not search.sounds:
        raise ValueError(f"There is no sound file below {address!r} ({' '.join(sorted(_SUFFIXES))}).")
    return search


def _add(search: SoundSearch, place: str, sound: FoundSound) -> None:
    """Add an object if it is a sound whose name can be used."""
    suffix = sound.path.suffix.lower()
    name = normalized_name(place)
    if suffix not in _SUFFIXES:
        search.other_files[suffix] += 1
    elif "" in place.split("/"):
        search.problems[place] = "A part of its name between two `/` is empty. Rename the object."
    elif name in search.sounds:
        search.problems[place] = (
            f"Its name and that of {name!a} are the same text in different Unicode forms. Rename one of the objects."
        )
    else:
        search.sounds[name] = sound


@dataclass(frozen=True)
class StoredSound:
    """A sound on object storage, which is fetched when its turn comes.

    Args:
        address: of the sound, as messages name it.
        storage: the file system, from [`open_storage`].
        path: in the file system.
    """

    address: str
    storage: "FileSystem"
    path: str

    def fetch(self) -> bytes:
        """The bytes of the sound.

        Raises:
            OSError: it cannot be read.
        """
        with self.storage.open_input_stream(self.path) as stream:
            return bytes(stream.read())


def stored_sounds(
    address: str, sounds: Iterable[FoundSound], options: Mapping[str, str] | None = None
) -> Iterator[StoredSound]:
    """The sounds that [`search_address`] found below an address, to be read."""
    storage, root = open_storage(address, options)
    for sound in sounds:
        place = sound.path.relative_to(Path(address)).as_posix()
        yield StoredSound(f"{address}/{place}", storage, f"{root}/{place}")


def _own_name(name: str) -> str:
    plain = name.lower().removeprefix("aws_")
    plain = _OTHER_NAMES.get(plain, plain)
    return plain if plain in (*_S3_ARGUMENTS, *_FLAGS, "endpoint") else name


def _s3_arguments(options: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of PyArrow's S3FileSystem for options of LanceDB."""
    arguments: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS}
    arguments |= {theirs: options[name] for name, theirs in _S3_ARGUMENTS.items() if name in options}
    if "endpoint" in options:
        scheme, sign, host = options["endpoint"].partition("://")
        arguments |= {"scheme": scheme, "endpoint_override": host} if sign else {"endpoint_override": scheme}
    if _is_set(options, "skip_signature"):
        arguments["anonymous"] = True
    if _is_set(options, "virtual_hosted_style_request"):
        arguments["force_virtual_addressing"] = True
    return arguments


def _is_set(options: Mapping[str, str], name: str) -> bool:
    return options.get(name, "").lower() in ("true", "1", "yes", "on")
