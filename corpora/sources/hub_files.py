"""Files of a data set on the Hub: their names, and downloads into the cache, with errors in words."""

import glob
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import get_cached_repo_tree, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from modeling_atri.sources import HubDataset


_MAX_PATTERNS = 200  # each is compared with the name of each file


class HubFiles:
    """The files of a data set's repository at one commit. Without a connection, those in the cache.

    Args:
        dataset: The data set. Its `README.md` is downloaded.

    Attributes:
        names: Names of all files, relative to the repository.
        readme: Path of the `README.md`, which may not exist.

    Raises:
        ValueError: if the repository, or its revision, does not exist, may not be read or cannot be reached.
    """

    def __init__(self, dataset: HubDataset) -> None:
        self._dataset = dataset
        folder = self.download(["README.md", ".gitattributes"])
        self._commit = folder.name
        self.readme = folder / "README.md"
        with _in_words(dataset):
            tree = get_cached_repo_tree(dataset.repo, repo_type="dataset", revision=self._commit)
        self.names = [file.path for file in tree]

    def download(self, names: Iterable[str]) -> Path:
        """Download files, as far as they are not in the cache, and return the folder that they are in."""
        revision = getattr(self, "_commit", self._dataset.revision)
        with _in_words(self._dataset):
            folder = snapshot_download(
                self._dataset.repo, repo_type="dataset", revision=revision, allow_patterns=_patterns(list(names))
            )
        return Path(folder)

    def fetch(self, name: str, folder: Path) -> Path:
        """Download one file into a folder, outside of the cache.

        Raises:
            ConnectionError: if it cannot be fetched.
        """
        repo = self._dataset.repo
        try:
            path = hf_hub_download(repo, name, repo_type="dataset", revision=self._commit, local_dir=folder)
        except (HTTPError, OSError) as error:
            raise ConnectionError(f"{name} of the data set {repo!r} cannot be downloaded: {error}") from error
        return Path(path)


def _patterns(names: list[str]) -> list[str]:
    """Patterns of `fnmatch` for files. Many files are named by their folders."""
    if len(names) <= _MAX_PATTERNS:
        return [glob.escape(name) for name in names]
    folders = {name.rpartition("/")[0] for name in names}
    return ["*"] if "" in folders or len(folders) > _MAX_PATTERNS else [f"{glob.escape(name)}/*" for name in folders]


@contextmanager
def _in_words(dataset: HubDataset) -> Iterator[None]:
    """Raise what goes wrong with a repository as a ValueError in one sentence."""
    name = f"The data set {dataset.repo!r}"
    try:
        yield
    except GatedRepoError as error:
        raise ValueError(
            f"{name} is gated: accept its terms on https://huggingface.co/datasets/{dataset.repo} and log in with "
            "`hf auth login`, or set HF_TOKEN to a token that may read it."
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(
            f"{name} has no revision {dataset.revision!r} on the Hub. Name a branch, tag or commit."
        ) from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"{dataset.repo!r} is neither an existing file or folder, nor a data set that can be reached on the Hub. "
            "Check its name. A private one needs `hf auth login`, or HF_TOKEN with a token that may read it."
        ) from error
    except HFValidationError as error:
        raise ValueError(f"{dataset.repo!r} is no valid name of a data set on the Hub: {error}") from error
    except (HTTPError, OSError, CachedRepoTreeNotFoundError) as error:
        raise ValueError(_unreachable(dataset, error)) from error


def _unreachable(dataset: HubDataset, error: BaseException) -> str:
    start = f"{dataset.repo!r} is neither an existing file or folder, nor a data set that can be reached on the Hub"
    causes = [error, *filter(None, (error.__cause__,))]
    if any(isinstance(cause, OfflineModeIsEnabled) for cause in causes):
        return (
            f"{start}: HF_HUB_OFFLINE is set, and its files are not all in the cache. Download it on a machine with a "
            "connection, or set HF_HUB_OFFLINE=0."
        )
    refused = next((cause for cause in causes if isinstance(cause, HfHubHTTPError)), None)
    if refused is not None:
        return f"{start}: the Hub answered {refused.response.status_code}. Try again later."
    return f"{start} ({str(causes[-1]).splitlines()[0]}). Check the connection and try again."
