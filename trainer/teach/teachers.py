"""Teachers: frozen models that embed the captions of the anchor language, as targets for all languages."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import cached_file

from modeling_atri.configuration_atri import AtriConfig
from modeling_atri.encode.encoding import encode_text
from modeling_atri.encode.fingerprints import weights_fingerprint
from modeling_atri.eval_mode_atri import in_eval_mode
from modeling_atri.hub_cards.cards.origin import origin_facts
from modeling_atri.hub_cards.results import TeacherFacts
from modeling_atri.modeling_atri import AtriModel
from modeling_atri.processing_atri import AtriProcessor
from modeling_atri.sources import check_source, public_name


SELF, COLUMN = "self", "column"
TEACHER_COLUMN = "teacher_embedding"
_BATCH_SIZE = 64
_QUIET = {"_raise_exceptions_for_missing_entries": False}
_SENTENCE_TRANSFORMERS_FILE = "modules.json"
_UNIMPORTANT = ("_name_or_path", "architectures", "dtype", "transformers_version")
_KINDS = "an AtriModel, a CLAP or PE-Audio model of transformers, or a model of sentence-transformers"


@dataclass(frozen=True)
class Teacher:
    """The text side of a frozen model.

    Args:
        name (`str`): Name of the model, for people.
        kind (`str`): `"self"`, `"atri"`, `"clap"`, `"pe_audio"`, `"sentence_transformers"` or `"column"`.
        width (`int`): Length of an embedding.
        fingerprint (`str`): Digest of the weights, tokenizer and settings that determine its embeddings.
        encode (callable): Returns the embeddings of a list of captions, `(n, width)`, float32, L2-normalised.
        license (`str`, *optional*): License id of the weights, as the Hub spells it.
    """

    name: str
    kind: str
    width: int
    fingerprint: str
    encode: Callable[[Sequence[str]], np.ndarray]
    license: str | None = None

    def facts(self, num_captions: int) -> TeacherFacts:
        """Facts for results and cards."""
        return TeacherFacts(
            name=self.name,
            kind=self.kind,
            license=self.license,
            width=self.width,
            fingerprint=self.fingerprint,
            num_captions=num_captions,
        )


def load_teacher(
    name_or_path: str | PathLike,
    language: str = "eng_Latn",
    trust_remote_code: bool = False,
    device: torch.device | str | None = None,
) -> Teacher:
    """Load the text side of another model as a teacher.

    Args:
        name_or_path (`str` or `Path`): Folder or Hub id of an `AtriModel` (also one that was saved for
            sentence-transformers), of a CLAP or PE-Audio model of transformers, or of any model of
            sentence-transformers.
        language (`str`, *optional*, defaults to `"eng_Latn"`): Anchor language. Only an `AtriModel` uses it.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run code from the model's repository.
        device (*optional*): Device to compute on. Default: the CPU.

    Raises:
        ValueError: There is no such folder, or the model has no text side that gives embeddings.
        OSError: The Hub repository does not exist or cannot be reached.
        ImportError: sentence-transformers is needed and not installed.
    """
    name = check_source(name_or_path)
    model_type = _model_type(name, trust_remote_code)
    if model_type == AtriConfig.model_type:
        trust: dict[str, Any] = {"trust_remote_code": trust_remote_code}
        atri: Any = AtriModel.from_pretrained(name, **trust)
        return model_teacher(atri.to(device or "cpu"), AtriProcessor.from_pretrained(name, **trust), language, name)
    if cached_file(name, _SENTENCE_TRANSFORMERS_FILE, **_QUIET) is not None:
        return _sentence_teacher(name, trust_remote_code, device)
    if model_type in _TOWERS:
        return _TOWERS[model_type](name, device)
    found = f"is of type {model_type!r}" if model_type else "has no `config.json` with a model type"
    raise ValueError(
        f"The teacher {name!r} has no text side that gives embeddings: it {found}. Use {_KINDS}, or a column "
        f"`{TEACHER_COLUMN}` of vectors in the training rows."
    )


def model_teacher(
    model: AtriModel,
    processor: AtriProcessor,
    language: str,
    name: str | None = None,
    states: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Teacher:
    """The text side of an `AtriModel` as it is now.

    Args:
        model, processor: The model and its processor. Its text side must not change while the teacher is used.
        language (`str`): Language of the captions.
        name (`str`, *optional*): Folder or Hub id. Without it, the teacher is the trained model itself, of the kind
            `"self"`.
        states (callable, *optional*): Returns the pooled states of tokens, as a [`TextCache`] does. Default: the text
            tower is run.
    """

    def encode(texts: Sequence[str]) -> np.ndarray:
        if states is None:
            return encode_text(model, processor, list(texts), language, batch_size=_BATCH_SIZE)
        tokens = processor(text=list(texts), language=language).to(model.device)
        pooled = states(tokens["input_ids"], tokens["attention_mask"])
        with in_eval_mode(model), torch.inference_mode():
            return model(text_pooler_output=pooled.to(model.dtype)).text_embeds.float().cpu().numpy()

    source = name or model.config._name_or_path or None
    side = nn.ModuleList([model.text_model, model.text_projection])
    settings = {name: getattr(processor, name) for name in ("normalize_text", "max_text_length")}
    settings |= {"language": language, "config": _settings(model.config.text_config)}
    return Teacher(
        name=public_name(source) if source else "scratch",
        kind="atri" if name else SELF,
        width=model.config.projection_dim,
        fingerprint=_fingerprint(side, processor.tokenizer, settings),
        encode=encode,
        license=origin_facts(source).get("license"),
    )


def _clap_teacher(name: str, device: Any) -> Teacher:
    from transformers import ClapModel

    model: Any = ClapModel.from_pretrained(name)
    model.to(device or "cpu")
    side = nn.ModuleList([model.text_model, model.text_projection])
    return _tower_teacher(name, "clap", model, side, lambda tokens: model.get_text_features(**tokens).pooler_output)


def _pe_audio_teacher(name: str, device: Any) -> Teacher:
    from transformers import PeAudioModel

    model: Any = PeAudioModel.from_pretrained(name)
    model.to(device or "cpu")
    side = nn.ModuleList([model.text_model, model.text_audio_head])

    def embed(tokens: dict[str, Tensor]) -> Tensor:  # `get_text_audio_embeds` of transformers 5.23 fails
        states = model.text_model(**tokens, output_hidden_states=True, return_dict=True).hidden_states[-1]
        return model.text_audio_head(states[:, 0])

    return _tower_teacher(name, "pe_audio", model, side, embed)


_TOWERS = {"clap": _clap_teacher, "pe_audio": _pe_audio_teacher}


def _tower_teacher(
    name: str, kind: str, model: Any, side: nn.Module, embed: Callable[[dict[str, Tensor]], Tensor]
) -> Teacher:
    """The text side of a model of transformers, with the tokenizer of its repository."""
    tokenizer = AutoTokenizer.from_pretrained(name)
    files = list(tokenizer.vocab_files_names.values())
    if Path(name).is_dir() and files and not any(Path(name, file).exists() for file in files):
        # without these files, transformers makes a tokenizer with an empty vocabulary
        raise ValueError(
            f"The teacher {name!r} has no tokenizer: there is no {' or '.join(files)}. Save the tokenizer there too."
        )
    model.eval()
    longest = min(tokenizer.model_max_length, _longest_text(model.config.text_config))

    def encode(texts: Sequence[str]) -> np.ndarray:
        blocks = []
        for start in range(0, len(texts), _BATCH_SIZE):
            block = list(texts[start : start + _BATCH_SIZE])
            tokens = tokenizer(block, padding=True, truncation=True, max_length=longest, return_tensors="pt")
            inputs = {key: tokens[key].to(model.device) for key in ("input_ids", "attention_mask")}
            with torch.inference_mode():
                blocks.append(F.normalize(embed(inputs).float(), dim=-1).cpu().numpy())
        return np.concatenate(blocks)

    return Teacher(
        name=public_name(name),
        kind=kind,
        width=encode(["width"]).shape[1],
        fingerprint=_fingerprint(side, tokenizer, {"config": _settings(model.config.text_config)}),
        encode=encode,
        license=origin_facts(name).get("license"),
    )


def _sentence_teacher(name: str, trust_remote_code: bool, device: Any) -> Teacher:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ImportError(
            f"The teacher {name!r} is a model of sentence-transformers: pip install sentence-transformers"
        ) from error
    model = SentenceTransformer(name, trust_remote_code=trust_remote_code, device=str(device or "cpu"))

    def encode(texts: Sequence[str]) -> np.ndarray:
        found = model.encode(list(texts), batch_size=_BATCH_SIZE, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(found, dtype=np.float32)

    return Teacher(
        name=public_name(name),
        kind="sentence_transformers",
        width=encode(["width"]).shape[1],
        fingerprint=_fingerprint(model, model.tokenizer, {"modules": [type(part).__name__ for part in model]}),
        encode=encode,
        license=origin_facts(name).get("license"),
    )


def _model_type(name: str, trust_remote_code: bool) -> str | None:
    """The type of model in a folder or repository; None if it has no configuration of transformers."""
    path = cached_file(name, "config.json", **_QUIET)
    if path is None:
        if not Path(name).is_dir() and cached_file(name, _SENTENCE_TRANSFORMERS_FILE, **_QUIET) is None:
            cached_file(name, "config.json")  # raises an error with the reason
        return None
    found = json.loads(Path(path).read_text(encoding="utf-8")).get("model_type")
    if found is None and trust_remote_code:
        return AutoConfig.from_pretrained(name, trust_remote_code=True).model_type
    return found


def _longest_text(config: Any) -> int:
    """The largest number of tokens of a caption. RoBERTa's positions start after the id of the padding token."""
    positions = getattr(config, "max_position_embeddings", 512)
    starts_late = config.model_type in ("clap_text_model", "roberta", "xlm-roberta")
    return positions - config.pad_token_id - 1 if starts_late else positions


def _settings(config: Any) -> dict[str, Any]:
    """A configuration without the entries that do not affect the embeddings, and that saving a model changes."""
    return {key: value for key, value in config.to_dict().items() if key not in _UNIMPORTANT}


def _fingerprint(side: nn.Module, tokenizer: Any, settings: dict[str, Any]) -> str:
    vocabulary = json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()
    words = hashlib.blake2b(vocabulary, digest_size=16).hexdigest()
    return weights_fingerprint(side, settings | {"vocabulary": words})
