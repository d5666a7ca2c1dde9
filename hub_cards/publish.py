"""A saved model to the Hub: whole, in one commit, or not at all."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelCard,
    get_token,
    is_offline_mode,
)
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id

from modeling_atri.sources import is_hub_id

from .authorship import CARD_NAME, is_made_here, signed
from .cards import make_model_card
from .metadata import eval_results_files
from .results import RESULTS_NAME, as_list, read_facts


_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
# What goes up; everything else in a run's folder stays: checkpoints, optimizer states, logs, caches, sounds, pickles.
_PUBLISHED = (
    *("config.json", *_WEIGHTS, *_ADAPTER),
    *("processor_config.json", "preprocessor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("sentencepiece.bpe.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt"),
    *("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"),
    *("*_atri.py", "onnx/*.onnx", "onnx/*.onnx.data", "onnx/*.json"),
    *(CARD_NAME, "LICENSE", "LICENSE.*", RESULTS_NAME, "results.png", ".eval_results/*.yaml"),
)
# Weights of an earlier push under names that this one does not write would go before the new ones when loaded, and its
# results would be taken for those of the new ones.
_REPLACED = (*_WEIGHTS, *_ADAPTER, "pytorch_model*.bin", "pytorch_model.bin.index.json", RESULTS_NAME)
_MORE_TRIES = 2  # where the connection breaks


class Publication(NamedTuple):
    """What a push did.

    Attributes:
        commit: the commit that was made, or the newest one where nothing had changed.
        changed: whether a commit was made.
        files: paths in the repository of all that was published, changed or not.
        url: of the repository, or of the pull request.
    """

    commit: CommitInfo
    changed: bool
    files: list[str]
    url: str


def publish(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = "Upload model",
    create_pr: bool = False,
    base_model: str | None = None,
    facts: dict[str, Any] | None = None,
) -> Publication:
    """Push a saved model to the Hub, with processor, card and results, in one commit.

    The folder is read, never written: a missing card and the `.eval_results` are made on the way from
    `atri_results.json`, and a card that loads the model from this folder loads it from the repository instead; else a
    card that was written by hand goes up as it is. It takes the place of the repository's, whose history keeps that.
    Files that the repository has already are not sent again.

    Args:
        folder: as `save_pretrained` of model (or adapter) and processor left it.
        repo_id (`str`): `owner/name`, or `name` in one's own account; created where there is none.
        private (`bool`, *optional*): whether a repository that is created is private.
        token (`str`, *optional*): default: `HF_TOKEN`, or that of `hf auth login`.
        revision (`str`, *optional*): branch, created where there is none. Default: `main`.
        commit_message (`str`, *optional*, defaults to `"Upload model"`): first line of the commit.
        create_pr (`bool`, *optional*, defaults to `False`): open a pull request instead of a commit.
        base_model (`str`, *optional*): Hub id of the model that an adapter was made on, where that was a folder.
        facts (`dict`, *optional*): what is known of the model, default: `atri_results.json` of the folder.

    Raises:
        ValueError: an incomplete folder, an adapter on a model that is not on the Hub, an invalid name, no token or a
            wrong one, no right to write there, a card that the Hub refuses.
        ConnectionError: offline mode, or a connection that broke again and again. A commit is made whole or not at
            all, and the same push again goes on where this one stopped.
    """
    _check_name(repo_id)
    _check_folder(Path(folder))
    if is_offline_mode():
        raise ConnectionError("Offline mode is on (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE): unset it to push.")
    token = token or get_token()
    if token is None:
        raise ValueError("There is no token to push with: run `hf auth login`, set HF_TOKEN, or pass `token`.")
    api = HfApi(token=token, library_name="modeling_atri")
    with clear_errors(repo_id):
        if "/" not in repo_id:
            repo_id = f"{api.whoami()['name']}/{repo_id}"
        files = collect_files(folder, repo_id, facts, base_model)
        heads: list[str] = []
        arguments = (api, files, repo_id, private, revision, commit_message, create_pr, heads)
        # Once more is safe, also where only the answer was lost: then nothing is left to commit. A pull request would
        # be made twice.
        for _ in range(0 if create_pr else _MORE_TRIES):
            try:
                return _push(*arguments)
            except (HTTPError, RuntimeError) as error:
                if isinstance(_cause(error), HfHubHTTPError) or not isinstance(_cause(error), HTTPError):
                    raise
        return _push(*arguments)


def collect_files(
    folder: str | os.PathLike, repo_id: str, facts: dict[str, Any] | None = None, base_model: str | None = None
) -> dict[str, Path | bytes]:
    """Path in the repository -> file, or content, of everything that `publish` sends.

    Raises:
        ValueError: an invalid `repo_id`; a folder without a whole model and its processor; an adapter whose base model
            is not on the Hub.
    """
    _check_name(repo_id)
    folder = Path(folder)
    _check_folder(folder)
    files: dict[str, Path | bytes] = dict(published_files(folder))
    facts = read_facts(folder) if facts is None else facts
    if _ADAPTER[0] in files:
        adapter = _adapter_config(folder / _ADAPTER[0], base_model)
        files[_ADAPTER[0]] = json.dumps(adapter, indent=2).encode()
        model = {"adapter": {}, "base_model": adapter["base_model_name_or_path"]}
        facts = facts | {"model": model | facts.get("model", {})}
    files[CARD_NAME] = _card(folder, repo_id, facts).encode()
    for name, content in eval_results_files(facts).items():
        files.setdefault(name, content.encode())
    return files


def published_files(folder: Path) -> dict[str, Path]:
    """Path in the repository -> file, of the files of a folder that may be published."""
    paths = [path for pattern in ("*", "onnx/*", ".eval_results/*") for path in folder.glob(pattern) if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in sorted(paths)}
    return {name: path for name, path in names.items() if any(_is_match(name, pattern) for pattern in _PUBLISHED)}


@contextmanager
def clear_errors(repo_id: str) -> Iterator[None]:
    """Turn what the Hub or the connection to it answers into errors that say what to do.

    Raises:
        ValueError: the Hub refused; the token, the name or the content is to be changed.
        ConnectionError: the same may work later.
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
            f"The connection to the Hub broke while pushing to {repo_id} ({cause}). A commit is made whole or not at "
            "all, so nothing there is half-written. Push again: what arrived is not sent twice."
        ) from error


def _cause(error: Exception) -> BaseException | None:
    """huggingface_hub wraps what broke the upload of a large file in a RuntimeError."""
    return error.__cause__ if isinstance(error, RuntimeError) else error


def _refusal(error: HfHubHTTPError, repo_id: str) -> ValueError | ConnectionError:
    """The Hub's answer in the words of someone who pushes."""
    status = error.response.status_code
    said = error.server_message or str(error).strip().splitlines()[0]
    if status == 401:
        return ValueError(
            f"The Hub does not know the token ({said}): make one that may write at https://huggingface.co/settings/"
            "tokens, then run `hf auth login`, set HF_TOKEN, or pass `token`."
        )
    if status == 403:
        return ValueError(
            f"This token may not write to {repo_id} ({said}). Push to an account or organisation of your own, with a "
            "token that may write."
        )
    if status == 404:
        return ValueError(f"There is no {repo_id}, or no such revision of it, to write to ({said}).")
    if status >= 500 or status == 429:
        return ConnectionError(f"The Hub cannot answer now ({said}). Nothing there is half-written: push again later.")
    return ValueError(f"The Hub refused the push to {repo_id} ({status}: {said}).")


def _is_match(name: str, pattern: str) -> bool:
    """Whether a path fits, folder by folder: `*` does not reach into folders."""
    return name.count("/") == pattern.count("/") and fnmatch(name, pattern)


def _check_name(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(
            f"{repo_id!r} cannot be the name of a repository; write `owner/name` with letters, digits, '-', '_' and "
            f"'.' ({error})"
        ) from error


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ValueError(f"There is no folder {str(folder)!r} to push.")
    has = {path.name for path in folder.iterdir()}
    needed = {
        "config.json, or adapter_config.json": {"config.json", "adapter_config.json"},
        "model.safetensors, or adapter_model.safetensors": {
            "model.safetensors",
            "model.safetensors.index.json",
            "adapter_model.safetensors",
        },
        "processor_config.json": {"processor_config.json"},
        "tokenizer_config.json": {"tokenizer_config.json"},
    }
    missing = [title for title, names in needed.items() if not names & has]
    if missing:
        raise ValueError(
            f"{folder} is not a whole model: it lacks {'; '.join(missing)}. Save model and processor into it with "
            "`save_pretrained`, or name the folder that `atri train` wrote."
        )


def _adapter_config(path: Path, base_model: str | None) -> dict[str, Any]:
    """PEFT's configuration, which names a base model that others can load."""
    config = json.loads(path.read_text(encoding="utf-8"))
    base = base_model or config.get("base_model_name_or_path")
    if not base or not is_hub_id(base):
        raise ValueError(
            f"The adapter was made on a model that is not on the Hub ({base or 'without a name'}), where nobody could "
            "load it. Push that model first, then the adapter with its Hub id as `base_model`."
        )
    return config | {"base_model_name_or_path": base}


def _card(folder: Path, repo_id: str, facts: dict[str, Any]) -> str:
    """The folder's card, or one from the facts, with examples that load the model from the repository."""
    path = folder / CARD_NAME
    if not path.is_file():
        return signed(str(make_model_card(facts, repo_id, title=repo_id.split("/")[-1])))
    text = path.read_text(encoding="utf-8")
    names = set(re.findall(r'\.from_pretrained\("([^"]+)"', text))
    if not is_made_here(text):  # it may speak of other models too
        return _renamed(text, {name for name in names if _is_name_of(folder, name)}, repo_id)
    card = ModelCard(_renamed(text, names, repo_id))
    # Known only now, where the base was a folder.
    card.data.base_model = card.data.base_model or as_list(facts.get("model", {}).get("base_model")) or None
    return signed(str(card))


def _renamed(text: str, names: set[str], repo_id: str) -> str:
    for name in names:
        text = text.replace(f'"{name}"', f'"{repo_id}"')
    return text


def _is_name_of(folder: Path, name: str) -> bool:
    """Whether a path ends as the folder's does, wherever it was relative to."""
    parts = Path(name).parts
    return folder.resolve().parts[-len(parts) :] == parts


def _push(
    api: HfApi,
    files: dict[str, Path | bytes],
    repo_id: str,
    private: bool | None,
    revision: str | None,
    commit_message: str,
    create_pr: bool,
    heads: list[str],
) -> Publication:
    """One try; `heads` collects the newest commit before each, the first of which tells whether anything changed."""
    repo = api.create_repo(repo_id, private=private, exist_ok=True)
    if revision is not None and not create_pr:
        api.create_branch(repo.repo_id, branch=revision, exist_ok=True)
    before = api.model_info(repo.repo_id, revision=revision)
    heads.append(before.sha)
    there = {sibling.rfilename for sibling in before.siblings or []}
    replaced = [name for name in there - set(files) if any(_is_match(name, pattern) for pattern in _REPLACED)]
    commit = api.create_commit(
        repo.repo_id,
        [
            *(CommitOperationAdd(name, content) for name, content in files.items()),
            *(CommitOperationDelete(name) for name in sorted(replaced)),
        ],
        commit_message=commit_message,
        revision=revision,
        create_pr=create_pr,
    )
    return Publication(commit, commit.oid != heads[0], list(files), commit.pr_url or repo.url)
