"""Licenses of translation models, of captions, and of the translations made of both."""

import os
import re
from itertools import chain

from huggingface_hub import ModelCard
from transformers.utils.hub import cached_file

from modeling_atri.hub_cards.results import as_list
from modeling_atri.sources import check_source, public_name


# Licenses of published weights, by a pattern in their name.
_KNOWN = (
    (re.compile(r"(?<![a-z])nllb(?![a-z])", re.IGNORECASE), "cc-by-nc-4.0"),
    (re.compile(r"(?<![a-z])madlad", re.IGNORECASE), "apache-2.0"),
)


def translation_license(
    name_or_path: str | os.PathLike[str], given: str | None = None, revision: str | None = None
) -> str:
    """Find the license of a translation model: that of NLLB or MADLAD by its name, else the one in its model card.

    Args:
        name_or_path (`str` or `Path`): Folder or Hub id of the model.
        given (`str`, *optional*): License of a model for which none can be found.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.

    Raises:
        ValueError: if no license is found and none is given, another one is found than given, or there is no such
            folder.
    """
    name = public_name(check_source(name_or_path))
    known = next((license for pattern, license in _KNOWN if pattern.search(name)), None)
    found = [known] if known else read_licenses(name_or_path, revision)
    known = found[0] if len(found) == 1 else None
    if known is not None and given is not None and known != given:
        raise ValueError(f"The license {given!r} was given, but {name} is {known}. Leave it out, or give {known!r}.")
    license = known or given
    if license is None:
        raise ValueError(
            f"The license of {name} is not known, because no model card says it. Pass it as --license, such as "
            "cc-by-4.0. The card of the translations names it."
        )
    return license


def read_licenses(name_or_path: str | os.PathLike[str], revision: str | None = None) -> list[str]:
    """Read the licenses in the metadata of a folder's or Hub repository's README.md; none if it does not say them."""
    path = cached_file(
        os.fspath(name_or_path),
        "README.md",
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return []
    found = as_list(ModelCard.load(path, ignore_metadata_errors=True).data.license)
    return [name for name in found if name not in ("other", "unknown")]


def joint_license(*parts: str | list[str] | None) -> str | list[str] | None:
    """The license of a work made of several: all of their licenses, or None if one of them is not known."""
    known = [as_list(part) for part in parts]
    licenses = list(dict.fromkeys(chain.from_iterable(known))) if all(known) else []
    return licenses if len(licenses) > 1 else next(iter(licenses), None)
