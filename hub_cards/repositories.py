"""Pushes files to a repository on the Hub in one commit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, cast

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelInfo,
    SpaceInfo,
    get_token,
    is_offline_mode,
)
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id


_MORE_TRIES = 2  # after a broken connection


class Publication(NamedTuple):
    """Outcome of a push."""

    commit: CommitInfo  #: The commit that was made, or the newest one if nothing had changed.
    changed: bool  #: Whether a commit was made.
    files: list[str]  #: Paths in the repository of all published files, changed or not.
    url: str  #: Address of the repository or the pull request.


def push_files(
    collect: Callable[[str], dict[str, Path | bytes]],
    repo_id: str,
    *,
    is_replaced: Callable[[str], bool],
    repo_type: Literal["model", "space"] = "model",
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str,
    create_pr: bool = False,
) -> Publication:
    """Push files to a repository, which is created if it does not exist. Files that it already has are not sent again.

    Args:
        collect: takes the full name of the repository and returns file or content, by path in the repository.
        repo_id (`str`): `owner/name`, or `name` in the account of the token.
        is_replaced: takes a path and returns whether a file there, from an earlier push, is deleted unless it is
            among the new files.
        repo_type (`str`, *optional*, defaults to `"model"`): `"model"`, or `"space"` for a Space with Gradio.
        private, token, revision, commit_message, create_pr: as in `publish`.

    Returns:
        [`Publication`]

    Raises:
        ValueError, ConnectionError: as in `publish`.
    """
    check_name(repo_id)
    if is_offline_mode():
        raise ConnectionError("Offline mode is on (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE): unset it to push.")
    token = token or get_token()
    if token is None:
        raise ValueError("Pushing needs an access token. Run `hf auth login`, set HF_TOKEN, or pass `token`.")
    api = HfApi(token=token, library_name="modeling_atri")
    with clear_errors(repo_id):
        if "/" not in repo_id:
            repo_id = f"{api.whoami()['name']}/{repo_id}"
        push = _Push(
            api, repo_id, repo_type, collect(repo_id), is_replaced, private, revision, commit_message, create_pr
        )
        # Trying again is safe: if only the answer was lost, nothing is left to commit. A pull request would be opened
        # twice, so it is not tried again.
        for _ in range(0 if create_pr else _MORE_TRIES):
            try:
                return push()
            except (HTTPError, RuntimeError) as error:
                if isinstance(_cause(error), HfHubHTTPError) or not isinstance(_cause(error), HTTPError):
                    raise
        return push()


@dataclass
class _Push:
    """A push that can be tried several times."""

    api: HfApi
    repo_id: str
    repo_type: Literal["model", "space"]
    files: dict[str, Path | bytes]
    is_replaced: Callable[[str], bool]
    private: bool | None
    revision: str | None
    commit_message: str
    create_pr: bool
    head: str | None = None  # the newest commit before the first try, which tells if anything changed

    def __call__(self) -> Publication:
        sdk = "gradio" if self.repo_type == "space" else None
        repo = self.api.create_repo(
            self.repo_id, repo_type=self.repo_type, space_sdk=sdk, private=self.private, exist_ok=True
        )
        if self.revision is not None and not self.create_pr:
            self.api.create_branch(repo.repo_id, repo_type=self.repo_type, branch=self.revision, exist_ok=True)
        info = self.api.repo_info(repo.repo_id, repo_type=self.repo_type, revision=self.revision)
        before = cast(ModelInfo | SpaceInfo, info)
        if self.head is None:
            self.head = before.sha or ""
        there = {sibling.rfilename for sibling in before.siblings or []}
        replaced = [name for name in there - set(self.files) if self.is_replaced(name)]
        commit = self.api.create_commit(
            repo.repo_id,
            [
                *(CommitOperationAdd(name, content) for name, content in self.files.items()),
                *(CommitOperationDelete(name) for name in sorted(replaced)),
            ],
            repo_type=self.repo_type,
            commit_message=self.commit_message,
            revision=self.revision,
            create_pr=self.create_pr,
        )
        return Publication(commit, commit.oid != self.head, list(self.files), commit.pr_url or repo.url)


def check_name(repo_id: str) -> None:
    """Raise a ValueError if a name cannot be that of a repository."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(
            f"{repo_id!r} is not a valid repository name. Use `owner/name` with letters, digits, '-', '_' and '.' "
            f"({error})"
        ) from error


@contextmanager
def clear_errors(repo_id: str) -> Iterator[None]:
    """Turn errors of the Hub and of the connection into errors that say what to do.

    Raises:
        ValueError: The Hub refused; token, name or content must be changed.
        ConnectionError: The same call may work later.
    """
    try:
        yield
    except (HTTPError, RuntimeError) as error:
        cause = _cause(error)
        if isinstance(cause, HfHubHTTPError):
            raise _refusal(cause, repo_id) from error
        if not isinstance(cause, HTTPError):
            raise
        raise ConnectionError(
            f"The connection to the Hub broke while pushing to {repo_id} ({cause}). Nothing there is half-written. "
            "Push again: files that arrived are not sent twice."
        ) from error


def _cause(error: Exception) -> BaseException | None:
    """The cause of an error. huggingface_hub raises a RuntimeError if it cannot upload a large file."""
    return error.__cause__ if isinstance(error, RuntimeError) else error


def _refusal(error: HfHubHTTPError, repo_id: str) -> ValueError | ConnectionError:
    """Error that explains the Hub's answer to someone who pushes a model."""
    status = error.response.status_code
    said = error.server_message or str(error).strip().splitlines()[0]
    if status == 401:
        return ValueError(
            f"The Hub does not know the token ({said}). Create a token with write access at "
            "https://huggingface.co/settings/tokens, then run `hf auth login`, set HF_TOKEN, or pass `token`."
        )
    if status == 403:
        return ValueError(
            f"This token may not write to {repo_id} ({said}). Push to your own account or organisation with a token "
            "that has write access."
        )
    if status == 404:
        return ValueError(f"There is no {repo_id}, or no such revision of it, to write to ({said}).")
    if status >= 500 or status == 429:
        return ConnectionError(f"The Hub cannot answer now ({said}). Nothing there is half-written. Push again later.")
    return ValueError(f"The Hub refused the push to {repo_id} ({status}: {said}).")
