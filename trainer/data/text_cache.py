"""Cache on disk of the output of a frozen text tower for each caption."""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from modeling_atri import __version__
from modeling_atri.base_model_atri import masked_mean
from modeling_atri.encode.fingerprints import weights_fingerprint
from modeling_atri.eval_mode_atri import in_eval_mode
from modeling_atri.files import written_whole
from modeling_atri.modeling_atri import AtriModel

from ..model.adapters import has_adapter


logger = logging.getLogger(__name__)

_KEY_BYTES = 16
_ROWS_A_FILE = 4096  # new captions that are kept in memory before they are written: 16 MB with SONAR


class TextCache:
    """Cache of the pooled states of captions, `text_model_output.pooler_output`, before the projection.

    The key of a caption is its tokens, including the language code. The states of each text tower and each version of
    this package are in their own sub-folder. A file holds up to 4096 captions. It is written at once, and later mapped
    into memory and only read. Several processes may share the folder: each writes its own files, and reads those of
    the others when it starts and whenever it has written one. With SONAR a caption takes 4 kB on disk and about 200
    bytes in memory. If a file cannot be written, a warning is logged, and its captions are encoded again.

    Args:
        model (`AtriModel`): The model. Its text tower must not change while this object exists.
        folder (`str` or `Path`): Folder of the cache.

    Raises:
        OSError: The folder cannot be created.
    """

    def __init__(self, model: AtriModel, folder: str | os.PathLike):
        self.model = model
        self.folder = Path(folder) / _fingerprint(model)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.num_computed = 0
        self._known_files: set[Path] = set()
        self._parts: list[np.ndarray] = []  # states of the mapped files
        self._starts: list[int] = []  # number of captions in the files before each part
        self._places: dict[bytes, int] = {}  # place of each caption among those of all parts
        self._new: dict[bytes, np.ndarray] = {}  # not yet in a file
        self._read_files()

    def __len__(self) -> int:
        return len(self._places) + len(self._new)

    def __call__(self, input_ids: Tensor, attention_mask: Tensor, batch_size: int = 64) -> Tensor:
        """The states of captions. Missing ones are computed, each once, without gradient and dropout.

        Args:
            input_ids, attention_mask: Tokens of the captions, `(n, tokens)`.
            batch_size (`int`, *optional*, defaults to 64): Captions of a forward pass.

        Returns:
            `torch.Tensor` of shape `(n, hidden_size)`, float32, on the device of `input_ids`.
        """
        keys, mask = _keys(input_ids, attention_mask)
        unknown = [row for row, key in enumerate(keys) if key not in self._places and key not in self._new]
        missing = list({keys[row]: row for row in reversed(unknown)}.values())  # each caption once
        missing.sort(key=lambda row: int(mask[row].sum()))
        for start in range(0, len(missing), batch_size):
            rows = missing[start : start + batch_size]
            states = self._compute(input_ids[rows], attention_mask[rows])
            self._new.update(zip((keys[row] for row in rows), states, strict=True))
        found = self._states_of(keys)
        if len(self._new) >= _ROWS_A_FILE:
            self.flush()
        return torch.from_numpy(found).to(input_ids.device)

    def put(self, input_ids: Tensor, attention_mask: Tensor, states: Tensor) -> None:
        """Store the states of captions that were computed elsewhere, such as by a text encoder outside of torch.

        Captions that the cache holds already keep their states.

        Args:
            input_ids, attention_mask: Tokens of the captions, `(n, tokens)`, as the model's processor makes them.
            states: Their pooled states, `(n, hidden_size)`, to use instead of the text tower's.

        Raises:
            ValueError: The states have another shape, or are not finite.
        """
        values = torch.as_tensor(states).detach().float().cpu()
        shape = (len(input_ids), self.model.config.text_config.hidden_size)
        if values.shape != shape or not bool(values.isfinite().all()):
            raise ValueError(
                f"`states` must be finite numbers of the shape (captions, hidden_size), {shape}; got "
                f"the shape {tuple(values.shape)}{'' if values.shape != shape else ' with NaN or inf'}."
            )
        keys, _ = _keys(input_ids, attention_mask)
        for key, row in zip(keys, values.numpy(), strict=True):
            if key not in self._places:
                self._new.setdefault(key, row)
        if len(self._new) >= _ROWS_A_FILE:
            self.flush()

    def flush(self) -> None:
        """Write the new states to a file, and read the files that other processes wrote."""
        if self._new:
            part = np.empty(1, self._part_type(len(self._new)))
            part["keys"] = np.frombuffer(b"".join(self._new), f"V{_KEY_BYTES}")
            part["states"] = list(self._new.values())
            try:
                with written_whole(self.folder / f"{uuid4().hex}.npy") as file:
                    np.save(file, part)
            except OSError as error:  # a full disk must not stop a training run
                logger.warning("%d captions cannot be kept and will be encoded again: %s", len(self._new), error)
            self._new = {}
        self._read_files()

    def close(self) -> None:
        """Write the new states, and log how many captions were encoded and how many the cache holds."""
        self.flush()
        size = sum(part.nbytes for part in self._parts)
        logger.info(
            "The text tower encoded %d captions; %s holds %d (%.1f MB).",
            *(self.num_computed, self.folder, len(self), size / 1e6),
        )

    def _part_type(self, count: int) -> np.dtype:
        """Type of a file's single element: all keys, then all states, so that the keys can be read alone."""
        config: Any = self.model.config.text_config
        width = config.hidden_size
        return np.dtype([("keys", f"V{_KEY_BYTES}", (count,)), ("states", "<f4", (count, width))])

    def _read_files(self) -> None:
        for path in sorted(set(self.folder.glob("[!.]*.npy")) - self._known_files):
            self._known_files.add(path)
            try:
                part = np.load(path, mmap_mode="r").view(np.ndarray)
            except (ValueError, EOFError, OSError) as error:
                # The machine died while it wrote the file. Its captions are encoded again.
                logger.warning("The cached captions in %s cannot be read: %s", path, error)
                continue
            count = part.dtype["keys"].shape[0] if part.dtype.names == ("keys", "states") else 0
            if part.dtype != self._part_type(count):  # written by other code
                continue
            start = self._starts[-1] + len(self._parts[-1]) if self._parts else 0
            self._starts.append(start)
            self._parts.append(part["states"][0])
            keys = part["keys"].tobytes()
            self._places.update((keys[_KEY_BYTES * row : _KEY_BYTES * (row + 1)], start + row) for row in range(count))

    def _states_of(self, keys: Sequence[bytes]) -> np.ndarray:
        """The states of captions, all of which are known, `(n, hidden_size)`; read file by file."""
        places = np.array([self._places.get(key, -1) for key in keys])
        numbers = np.searchsorted(self._starts, places, side="right") - 1  # -1 for those that are not in a file
        config: Any = self.model.config.text_config
        found = np.empty((len(keys), config.hidden_size), np.float32)
        for number in np.unique(numbers).tolist():
            (rows,) = np.nonzero(numbers == number)
            if number < 0:
                found[rows] = [self._new[keys[row]] for row in rows.tolist()]
            else:
                found[rows] = self._parts[number][places[rows] - self._starts[number]]
        return found

    @torch.no_grad()
    def _compute(self, input_ids: Tensor, attention_mask: Tensor) -> np.ndarray:
        used = attention_mask.any(dim=0)
        input_ids, attention_mask = input_ids[:, used], attention_mask[:, used]
        tower = self.model.text_model
        with in_eval_mode(tower), torch.autocast(input_ids.device.type, enabled=False):
            states = tower(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        self.num_computed += len(input_ids)
        return masked_mean(states.float(), attention_mask).cpu().numpy()


def check_cacheable(model: AtriModel) -> None:
    """Raise a ValueError unless the text tower's output for a caption is the same in every step."""
    trained = [name for name, parameter in model.text_model.named_parameters() if parameter.requires_grad]
    if trained or has_adapter(model.text_model):
        found = f"it is trained ({trained[0]}{', ...' if trained[1:] else ''})" if trained else "it has an adapter"
        raise ValueError(
            f"`text_cache_dir` needs a text tower that does not change, but {found}. Set `freeze_text` and use a "
            "model without an adapter (`merge_and_unload`), or leave out `text_cache_dir`."
        )


def _keys(input_ids: Tensor, attention_mask: Tensor) -> tuple[list[bytes], np.ndarray]:
    """The keys of captions, and their mask as an array."""
    ids, mask = input_ids.cpu().numpy().astype("<i4"), attention_mask.cpu().numpy().astype(bool)
    tokens, ends = ids[mask].tobytes(), (ids.itemsize * mask.sum(axis=1).cumsum()).tolist()
    parts = (tokens[start:end] for start, end in zip([0, *ends], ends, strict=False))
    return [hashlib.blake2b(part, digest_size=_KEY_BYTES).digest() for part in parts], mask


def _fingerprint(model: AtriModel) -> str:
    """A name for this text tower: its configuration and all of its weights."""
    config = model.config.text_config.to_dict()
    for name in ("_name_or_path", "architectures", "dtype", "transformers_version"):  # changed by saving and loading
        config.pop(name, None)
    return weights_fingerprint(model.text_model, {"version": __version__, "config": config})
