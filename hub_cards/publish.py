"""Pushes a saved model to the Hub in one commit."""

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, cast

from huggingface_hub import ModelCard, ModelCardData
from safetensors import SafetensorError, safe_open

from modeling_atri.sources import is_hub_id, path_advice

from .cards import make_model_card
from .cards.authorship import CARD_NAME, is_made_here, signed
from .cards.metadata import eval_results_files
from .repositories import Publication, check_name, push_files
from .results import RESULTS_NAME, UNKNOWN_MAKER, ModelFacts, Results, as_list, read_results


_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
# Files to push. Everything else in a run's folder is private: checkpoints, optimizer states, logs, caches, sounds.
_PUBLISHED = (
    *("config.json", *_WEIGHTS, *_ADAPTER),
    *("processor_config.json", "preprocessor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("sentencepiece.bpe.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt"),
    *("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"),
    *("*_atri.py", "onnx/*.onnx", "onnx/*.onnx.data", "onnx/*.json"),
    *(CARD_NAME, "LICENSE", "LICENSE.*", RESULTS_NAME, "results.png", ".eval_results/*.yaml"),
)
# Files of an earlier push that are deleted unless the new push replaces them. The old weights could be loaded in place
# of the new ones, and the old results would be taken for those of the new weights.
_REPLACED = (*_WEIGHTS, *_ADAPTER, "pytorch_model*.bin", "pytorch_model.bin.index.json", RESULTS_NAME)
_CONFIGS = ("config.json", "processor_config.json", "preprocessor_config.json")  # with the names of code in `auto_map`
# Type of `AtriEmbeddedAudioConfig`, whose import would register the package's classes with the auto classes.
_EMBEDDED_AUDIO = "atri_embedded_audio"


def publish(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = "Upload model",
    create_pr: bool = False,
    base_model: str | None = None,
    facts: Results | None = None,
) -> Publication:
    """Push a saved model to the Hub, with processor, card and results, in one commit.

    The folder itself is not changed. A missing card and the `.eval_results` are made from `atri_results.json`.
    Examples in the card that load the model from the folder are changed to load it from the repository; apart from
    that, a card that was written by hand is pushed as it is. The card replaces that of the repository. Files that the
    repository already has are not sent again.

    Args:
        folder (`str` or `os.PathLike`): Folder that model (or adapter) and processor were saved to with
            `save_pretrained`.
        repo_id (`str`): `owner/name`, or `name` in your own account. The repository is created if it does not exist.
        private (`bool`, *optional*): Whether a repository that is created is private.
        token (`str`, *optional*): Access token. Default: `HF_TOKEN`, or that of `hf auth login`.
        revision (`str`, *optional*): Branch to push to, which is created if it does not exist. Default: `main`.
        commit_message (`str`, *optional*, defaults to `"Upload model"`): First line of the commit message.
        create_pr (`bool`, *optional*, defaults to `False`): Open a pull request instead of committing.
        base_model (`str`, *optional*): Hub id of the base model of an adapter that was made on a local folder.
        facts ([`~modeling_atri.hub_cards.results.Results`], *optional*): Results of the model. Default: those of the
            folder.

    Returns:
        [`Publication`]

    Raises:
        ValueError: The folder is incomplete, the base model of an adapter is not on the Hub, a name is invalid, there
            is no token or a wrong one, the token may not write there, or the Hub refuses the card.
        ConnectionError: Offline mode is on, or the connection broke several times. A broken push leaves nothing
            half-written, and pushing again sends only what is missing.
    """
    check_name(repo_id)
    _check_folder(Path(folder))
    return push_files(
        lambda name: collect_files(folder, name, facts, base_model),
        repo_id,
        is_replaced=lambda path: any(_is_match(path, pattern) for pattern in _REPLACED),
        private=private,
        token=token,
        revision=revision,
        commit_message=commit_message,
        create_pr=create_pr,
    )


def collect_files(
    folder: str | os.PathLike[str], repo_id: str, facts: Results | None = None, base_model: str | None = None
) -> dict[str, Path | bytes]:
    """Collect everything that [`publish`] sends; arguments and errors are as there.

    Returns:
        `dict`: File or content, by path in the repository.
    """
    check_name(repo_id)
    folder = Path(folder)
    _check_folder(folder)
    found = published_files(folder)
    _check_contents(found.values())
    files: dict[str, Path | bytes] = dict(found)
    if facts is not None:
        return files | _texts(folder, repo_id, facts, base_model, files)
    try:
        return files | _texts(folder, repo_id, read_results(folder), base_model, files)
    except (
        AttributeError,
        KeyError,
        TypeError,
    ) as error:  # the file is JSON, but has other parts than those of `Results`
        raise ValueError(
            f"No card can be made from {folder / RESULTS_NAME} ({type(error).__name__}: {error}), because it was not "
            "written by this package or was changed. Restore the file, or delete it."
        ) from error


def _texts(
    folder: Path, repo_id: str, results: Results, base_model: str | None, files: Collection[str]
) -> dict[str, bytes]:
    """The texts that are made for a repository, by path in it; `files` are those that the folder has."""
    texts: dict[str, bytes] = {}
    if _ADAPTER[0] in files:
        adapter = _adapter_config(folder / _ADAPTER[0], base_model)
        texts[_ADAPTER[0]] = json.dumps(adapter, indent=2).encode()
        model = ModelFacts(adapter={}, base_model=adapter["base_model_name_or_path"])
        results = results | {"model": model | results.get("model", {})}
    elif of_config := _facts_of_config(folder):
        results = results | {"model": of_config | results.get("model", {})}
    texts[CARD_NAME] = _card(folder, repo_id, results).encode()
    made = eval_results_files(results).items()
    return texts | {name: content.encode() for name, content in made if name not in files}


def published_files(folder: Path) -> dict[str, Path]:
    """Files of a folder that may be published, by path in the repository."""
    paths = [path for pattern in ("*", "onnx/*", ".eval_results/*") for path in folder.glob(pattern) if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in sorted(paths)}
    found = {name: path for name, path in names.items() if any(_is_match(name, pattern) for pattern in _PUBLISHED)}
    return found | _tower_code(folder)


def _tower_code(folder: Path) -> dict[str, Path]:
    """Code of an audio encoder that came from a repository: files that `auto_map` names, and what they import."""
    configs = [path for name in _CONFIGS if (path := folder / name).is_file()]
    _check_contents(configs)
    maps = [auto_map for path in configs for auto_map in _auto_maps(json.loads(path.read_text(encoding="utf-8")))]
    named = {str(reference).split(".")[0] for auto_map in maps for reference in auto_map.values()}
    theirs = sorted(name for name in named if not name.endswith("_atri"))
    files = [path for name in theirs if (path := folder / f"{name}.py").is_file()]
    if not files:
        return {}
    from transformers.dynamic_module_utils import get_relative_import_files

    imported = [Path(other) for path in files for other in get_relative_import_files(path)]
    return {path.name: path for path in [*files, *imported] if path.parent == folder and path.is_file()}


def _auto_maps(value: Any) -> Iterator[dict[str, Any]]:
    """All `auto_map` entries within the content of a JSON file."""
    if isinstance(value, dict):
        if isinstance(auto_map := value.get("auto_map"), dict):
            yield auto_map
        for part in value.values():
            yield from _auto_maps(part)


def _facts_of_config(folder: Path) -> ModelFacts:
    """What the configuration says of a model without an audio tower, or with one that is code of the repository."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    audio = config.get("audio_config")
    if not isinstance(audio, dict):
        return ModelFacts()
    if audio.get("model_type") != _EMBEDDED_AUDIO:
        names = [str(reference).split(".")[0] for reference in audio.get("auto_map", {}).values()]
        return ModelFacts() if all(name.endswith("_atri") for name in names) else ModelFacts(trust_remote_code=True)
    return ModelFacts(audio_embedded_by=audio.get("source") or UNKNOWN_MAKER, projection_dim=config["projection_dim"])


def _is_match(name: str, pattern: str) -> bool:
    """Whether a path matches a pattern whose `*` does not match slashes."""
    return name.count("/") == pattern.count("/") and fnmatch(name, pattern)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ValueError(f"There is no folder {str(folder)!r} to push. {path_advice(str(folder))}".rstrip())
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
            f"{folder} is not a complete model: it lacks {'; '.join(missing)}. Save model and processor into it with "
            "`save_pretrained`, or pass the folder that `atri train` wrote."
        )


def _check_contents(paths: Iterable[Path]) -> None:
    """Raise a ValueError for a file that no one could load."""
    for path in paths:
        try:
            if path.suffix == ".json":
                content = json.loads(path.read_text(encoding="utf-8"))
                if path.name.endswith("config.json") and not isinstance(content, dict):
                    raise ValueError(f"it must hold an object, but holds a {type(content).__name__}")
            elif path.suffix == ".safetensors":
                with safe_open(path, "pt"):
                    pass  # reads the header and compares the size
        except (ValueError, RecursionError, SafetensorError) as error:
            kind = "JSON" if path.suffix == ".json" else "weights"
            raise ValueError(
                f"{path} cannot be read as {kind}: {error}. Save the model again, or copy it again."
            ) from error


def _adapter_config(path: Path, base_model: str | None) -> dict[str, Any]:
    """PEFT's configuration with a base model that others can load."""
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    base = base_model or config.get("base_model_name_or_path")
    if not base or not is_hub_id(base):
        raise ValueError(
            f"The adapter was made on a model that is not on the Hub ({base or 'without a name'}), so others could "
            "not load it. Push that model first, then the adapter with its Hub id as `base_model`."
        )
    return config | {"base_model_name_or_path": base}


def _card(folder: Path, repo_id: str, results: Results) -> str:
    """The folder's card, or one made from the results, with examples that load the model from the repository."""
    path = folder / CARD_NAME
    if not path.is_file():
        return signed(str(make_model_card(results, repo_id, title=repo_id.split("/")[-1])))
    try:
        text = path.read_text(encoding="utf-8")
    except ValueError as error:
        raise ValueError(f"{path} is not a text in UTF-8 ({error}). Save it as UTF-8.") from error
    names = set(re.findall(r'\.from_pretrained\("([^"]+)"', text))
    if not is_made_here(text):  # a card written by hand may name other models too
        return _renamed(text, {name for name in names if _is_name_of(folder, name)}, repo_id)
    card = ModelCard(_renamed(text, names, repo_id))
    data = cast(ModelCardData, card.data)
    # If the base model was a folder, its Hub id is known only now.
    data.base_model = data.base_model or as_list(results.get("model", {}).get("base_model")) or None
    return signed(str(card))


def _renamed(text: str, names: set[str], repo_id: str) -> str:
    for name in names:
        text = text.replace(f'"{name}"', f'"{repo_id}"')
    return text


def _is_name_of(folder: Path, name: str) -> bool:
    """Whether a path, relative to any folder, can be the path of `folder`."""
    parts = Path(name).parts
    return folder.resolve().parts[-len(parts) :] == parts
