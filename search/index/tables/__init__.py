"""The tables of an index on LanceDB: windows of sounds with their vectors, failures, notes, and facts of the model."""

from .facts import IndexFacts
from .filters import OF_FILES, OF_MOMENTS, all_of, column, of_folder, of_kinds, of_sounds, quoted
from .index_tables import IndexTables
from .locks import IndexInUseError
from .places import FACTS, FAILURES, LOCK_NAME, NOTES, WINDOWS, location_of
from .rows import (
    CLIP,
    FILE_COLUMNS,
    KINDS,
    NO_FOLDER,
    OWN_COLUMNS,
    RESERVED_NAMES,
    VECTOR,
    WHOLE,
    WINDOW,
    Failure,
    IndexedSound,
    SoundKey,
    Transfer,
    folder_of_row,
    folders_and_paths,
    rows_of,
    vector_values,
)


__all__ = [
    "CLIP",
    "FACTS",
    "FAILURES",
    "FILE_COLUMNS",
    "KINDS",
    "LOCK_NAME",
    "NOTES",
    "NO_FOLDER",
    "OF_FILES",
    "OF_MOMENTS",
    "OWN_COLUMNS",
    "RESERVED_NAMES",
    "VECTOR",
    "WHOLE",
    "WINDOW",
    "WINDOWS",
    "Failure",
    "IndexFacts",
    "IndexInUseError",
    "IndexTables",
    "IndexedSound",
    "SoundKey",
    "Transfer",
    "all_of",
    "column",
    "folder_of_row",
    "folders_and_paths",
    "location_of",
    "of_folder",
    "of_kinds",
    "of_sounds",
    "quoted",
    "rows_of",
    "vector_values",
]
