"""`atri convert`: turn weights of other projects into a folder that `from_pretrained` reads."""

import json
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeling_atri.bounds import Positive, PositiveCount, check_options, option
from modeling_atri.files import files_in, folder_written_whole
from modeling_atri.hub_cards.results import RESULTS_NAME, UNKNOWN_MAKER, write_results
from modeling_atri.sources import check_source, is_hub_id, public_name

from ..options import parse_options


if TYPE_CHECKING:
    from modeling_atri import AtriModel, AtriProcessor


DESCRIPTION = """\
Make an ATRI model and its processor from the weights of other projects, and save them to output_dir. The result is
loaded, trained and pushed like every other model.

The weights are a released ML-CLAP checkpoint (--mlclap), or a text tower (--text: SONAR or another encoder) and one of
  --audio    an audio tower (CED, or the encoder of an audio model of transformers); both projection heads are new
  --clap     a CLAP model: its audio tower, audio head and temperature are kept, so audio embeddings do not change
  --archive  stored embeddings of sounds: the model has no audio tower, and embeds texts for this archive
New heads have random weights. Train them, for example with `atri train` or `atri teach`.

examples:
  atri convert --mlclap pretrain.pt --tokenizer facebook/nllb-200-distilled-600M mlclap/
  atri convert --audio mispeech/ced-base --text cointegrated/SONAR_200_text_encoder towers/
  atri convert --clap laion/clap-htsat-unfused --text FacebookAI/xlm-roberta-base clap/
  atri convert --archive embeddings/ --text FacebookAI/xlm-roberta-base archive/
  atri convert --audio audiotransformer_base.pt --text sonar_text_encoder.pt \\
      --tokenizer facebook/nllb-200-distilled-600M towers/

If a weight is missing, unknown or of the wrong shape, the error names it, and nothing is written. Files are read
without running code that they contain. Models with SONAR's weights inherit their license, cc-by-nc-4.0.
"""

# Option -> project of a file, in the order in which the sources are listed.
_PROJECTS = {"mlclap": "ML-CLAP", "clap": "CLAP", "audio": "CED", "ced": "CED", "text": "SONAR", "sonar": "SONAR"}
_SOURCES = ("mlclap", "clap", "archive", "audio", "ced", "text", "sonar")
_FRESH = {"audio": ["audio_projection", "text_projection", "logit_scale"], "clap": ["text_projection"]}
_FRESH |= {"archive": ["text_projection", "logit_scale"], "mlclap": []}


@dataclass
class ConvertArguments:
    """Options of `atri convert`."""

    output_dir: str = field(metadata={"help": "Folder to write model and processor to.", "positional": True})
    mlclap: str | None = option(None, "File of an ML-CLAP checkpoint.")
    audio: str | None = option(
        None,
        "Audio tower: file of CED, or folder or Hub id of CED, of another audio model (CLAP, AST, Whisper, wav2vec2, "
        "HuBERT, WavLM, PE-Audio, ...) or of a saved ATRI model.",
    )
    text: str | None = option(None, "Text tower: file of SONAR, or folder or Hub id of SONAR or another encoder.")
    clap: str | None = option(None, "Folder or Hub id of a CLAP model whose audio side is kept.")
    archive: str | None = option(
        None, "Stored embeddings of sounds: a folder of `atri encode`, a .npy file with ids, or parquet files."
    )
    ced: str | None = option(None, "Same as --audio.")
    sonar: str | None = option(None, "Same as --text.")
    tokenizer: str | None = option(None, "Folder or Hub id. Default: that of --text, unless it is a file.")
    without_audio_tower: bool = option(
        False, "Save the text side alone, to search audio embeddings that are made elsewhere with the audio side."
    )
    trust_remote_code: bool = option(False, "Run code from the repository of the audio model.")
    audio_heads: PositiveCount | None = option(None, "Attention heads of CED. Default: those published for its width.")
    text_heads: PositiveCount | None = option(None, "Attention heads of SONAR from a file. Default: those published.")
    projection_dim: PositiveCount | None = option(
        None, "With --audio: width of the embedding space. Default: 1024. Other sources have a width of their own."
    )
    temperature: Positive | None = option(
        None,
        "Softmax temperature to continue training with, e.g. the paper's 0.07. Default: the temperature "
        "in the checkpoint of ML-CLAP or CLAP, otherwise 0.07.",
    )
    seed: int = option(0, "Seed of the new projection heads.")
    overwrite: bool = option(False, "Write into a folder that holds other files than an earlier conversion.")

    def __post_init__(self):
        check_options(self)
        for name, other in (("audio", "ced"), ("text", "sonar")):
            if getattr(self, name) is not None and getattr(self, other) is not None:
                raise ValueError(f"--{name} and --{other} are two names of one option. Pass one of them.")
        kinds = [name for name in _FRESH if self.source(name) is not None]
        if kinds == ["clap"] and self.source("text") is None:
            raise ValueError(
                "--clap needs a text tower: pass --text. CLAP's own text tower cannot be kept, because it embeds a "
                "text by its first token, and an ATRI model by the mean over all tokens. To train another text tower "
                "to embed texts as CLAP does, use `atri teach --teacher`."
            )
        if len(kinds) != 1 or (self.source("text") is None) != (kinds == ["mlclap"]):
            given = " ".join(f"--{name}" for name in _SOURCES if getattr(self, name) is not None)
            raise ValueError(
                f"Pass either --mlclap, or --text and one of --audio, --clap and --archive; got {given or 'none'}."
            )
        (self.kind,) = kinds
        if self.kind != "audio" and self.projection_dim is not None:
            raise ValueError(
                f"--projection_dim is only for --audio; the width of the embedding space of --{self.kind} is fixed."
            )
        if self.kind in ("clap", "archive") and self.audio_heads is not None:
            raise ValueError(f"--audio_heads is only for CED (--audio or --mlclap), not for --{self.kind}.")
        if self.kind == "archive" and self.without_audio_tower:
            raise ValueError("With --archive, the model never has an audio tower. Leave out --without_audio_tower.")
        if self.tokenizer is None and (self.kind == "mlclap" or os.path.isfile(str(self.source("text")))):
            raise ValueError(
                "Name the text tower's tokenizer with --tokenizer; ML-CLAP and SONAR use the tokenizer of "
                "facebook/nllb-200-distilled-600M."
            )

    def source(self, name: str) -> str | None:
        """The value of an option, by either of its names."""
        other = {"audio": self.ced, "text": self.sonar}.get(name)
        return getattr(self, name) if other is None else other

    @property
    def sources(self) -> dict[str, str]:
        """The sources that were given: option -> file, folder or Hub id."""
        names = (*_SOURCES, "tokenizer")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def main(argv: list[str]) -> None:
    """Run the command."""
    (args,) = parse_options(argv, (ConvertArguments,), DESCRIPTION, "atri convert")
    convert(args)


def convert(args: ConvertArguments) -> dict[str, Any]:
    """Convert the weights, save model and processor, and return the facts of the model."""
    start = time.perf_counter()
    folder = Path(args.output_dir)
    check_output(folder, args.overwrite)
    if args.mlclap is not None and not os.path.isfile(args.mlclap):  # before the Hub is asked for the tokenizer
        raise ValueError(f"There is no file {args.mlclap!r}. Name a released checkpoint of ML-CLAP.")
    with _printed_log():
        model, processor = _make_model(args)
    check_vocabulary(model, processor)
    processor.limit_text_length(model.max_text_tokens)
    facts = _facts(args, model)
    _print_model(model)
    size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    print(f"Writing {folder} ({size / 1e6:,.1f} MB) ...", flush=True)
    check_room(folder, size)
    with folder_written_whole(folder) as temporary:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        _save_facts(facts, temporary)
    print(f"Wrote model and processor to {folder} in {time.perf_counter() - start:.0f} s.")
    return facts


def _make_model(args: ConvertArguments) -> "tuple[AtriModel, AtriProcessor]":
    import torch

    from modeling_atri import AtriModel, AtriProcessor, pretrained
    from modeling_atri.embedded_audio_atri import AtriEmbeddingExtractor
    from modeling_atri.embedding_store import open_vectors
    from modeling_atri.pretrained.joining import join_towers
    from modeling_atri.pretrained.towers import read_text_encoder

    vectors = None if args.archive is None else open_vectors(args.archive)
    if (text_source := args.source("text")) is not None and not os.path.isfile(text_source):
        # Before its tokenizer, which a model of another kind may not have.
        read_text_encoder(check_source(text_source, "file or folder", needs_owner=False), args.text_heads)
    tokenizer = str(args.tokenizer or text_source)
    processor = pretrained.make_processor(
        tokenizer,
        normalize_text=args.kind == "mlclap",
        audio=args.source("audio") or args.clap,
        trust_remote_code=args.trust_remote_code,
    )
    print(f"{tokenizer}: {len(processor.tokenizer)} tokens")
    if args.mlclap is not None:
        model = pretrained.from_mlclap_checkpoint(args.mlclap, args.audio_heads, args.text_heads)
    else:
        audio = args.source("audio")
        trust = {"trust_remote_code": args.trust_remote_code}
        tower = None if audio is None else pretrained.load_audio_tower(audio, args.audio_heads, **trust)
        text = pretrained.load_text_tower(str(text_source), args.text_heads)
        torch.manual_seed(args.seed)
        if tower is not None:
            model = join_towers(AtriModel, tower, text, args.projection_dim or 1024)
        elif vectors is None:
            model = pretrained.from_clap_pretrained(str(args.clap), text)
        else:
            maker, fingerprint = vectors.facts
            source = maker or public_name(str(args.archive))
            model = pretrained.from_text_pretrained(text, vectors.width, source=source, fingerprint=fingerprint)
            processor = AtriProcessor(AtriEmbeddingExtractor(vectors.width, source), processor.tokenizer)
    if args.temperature is not None:
        model.config.logit_scale_init_value = -math.log(args.temperature)
        model.logit_scale.data.fill_(model.config.logit_scale_init_value)
    if args.without_audio_tower:
        model, processor = pretrained.without_audio_tower(model, processor)
    return model, processor


def _print_model(model: "AtriModel") -> None:
    from modeling_atri.audio_encoders_atri import audio_width

    for name, tower in {"audio": model.audio_model, "text": model.text_model}.items():
        config = tower.config
        if name == "audio" and _maker(model) is not None:
            print(f"audio tower: none; the model takes embeddings of {config.hidden_size} numbers by {_maker(model)}")
            continue
        width = audio_width(config) if name == "audio" else config.hidden_size
        print(
            f"{name} tower: {config.model_type}, {width} wide, {len(tower.state_dict())} tensors, "
            f"{tower.num_parameters():,} parameters"
        )
    print(f"model: {len(model.state_dict())} tensors, {model.num_parameters():,} parameters")


def _maker(model: "AtriModel") -> str | None:
    """For a model without an audio tower, the model that embeds the sounds; None for others."""
    from modeling_atri.configuration_atri import AtriEmbeddedAudioConfig

    config: Any = model.config.audio_config
    return (config.source or UNKNOWN_MAKER) if config.model_type == AtriEmbeddedAudioConfig.model_type else None


def _facts(args: ConvertArguments, model: "AtriModel") -> dict[str, Any]:
    """How the model was made, for its card; without the local parts of paths."""
    from modeling_atri.configuration_atri import code_of_audio
    from modeling_atri.hub_cards.cards.origin import weights_license
    from modeling_atri.hub_cards.environment import describe_environment

    weights = {name: source for name, source in args.sources.items() if name in _PROJECTS}
    base_model = [source for source in weights.values() if is_hub_id(source, needs_owner=False)]
    fresh = {"fresh": _FRESH[args.kind], "seed": args.seed} if _FRESH[args.kind] else {}
    if fresh and args.without_audio_tower:
        fresh["fresh"] = [part for part in _FRESH[args.kind] if part != "audio_projection"]
    maker = _maker(model)
    audio_config: Any = model.config.audio_config
    # The name of a file says little about its content, so its project is named instead.
    names = {
        source: _PROJECTS[name] if os.path.isfile(source) else public_name(source) for name, source in weights.items()
    }
    licenses = {name: weights_license(name if os.path.isfile(source) else source) for source, name in names.items()}
    return {
        "model": {
            "num_parameters": model.num_parameters(),
            "projection_dim": model.config.projection_dim,
            "weights_from": list(names.values()),
            "source_licenses": licenses,
            **({"base_model": base_model} if base_model else {}),
            **({} if maker is None else {"audio_embedded_by": maker}),
            **({"trust_remote_code": True} if code_of_audio(audio_config) else {}),
        },
        "conversion": {
            **{name: public_name(source) for name, source in args.sources.items()},
            **fresh,
            **({} if args.temperature is None else {"temperature": args.temperature}),
        },
        "environment": describe_environment(),
    }


def _save_facts(facts: dict[str, Any], folder: Path) -> None:
    """Save the facts with the names of all files, by which a later run recognises an earlier conversion."""
    facts["conversion"]["files"] = sorted({*_file_names(folder), RESULTS_NAME})
    write_results(facts, folder / RESULTS_NAME)


def check_output(folder: Path, overwrite: bool) -> None:
    """Raise a ValueError unless the folder is new, empty, or holds nothing but an earlier conversion."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. Name a folder to write to.")
    if overwrite or not folder.exists():
        return
    converted: list[str] = []
    if (folder / RESULTS_NAME).is_file():
        try:
            converted = json.loads((folder / RESULTS_NAME).read_text(encoding="utf-8"))["conversion"]["files"]
        except (ValueError, KeyError, TypeError):
            converted = []  # another command wrote it: it counts as a file like any other
    if other := sorted(set(_file_names(folder)) - set(converted)):
        more = f" and {len(other) - 4} more" if len(other) > 4 else ""
        raise ValueError(
            f"{folder} is not empty and not an earlier conversion: it holds {', '.join(other[:4])}{more}. Name "
            "another folder, or pass --overwrite to write into this one."
        )


def check_vocabulary(model: "AtriModel", processor: "AtriProcessor") -> None:
    """Raise a ValueError if the tokenizer has tokens that the text tower does not know."""
    rows = model.text_model.get_input_embeddings().num_embeddings
    if len(processor.tokenizer) > rows:
        raise ValueError(
            f"The tokenizer has {len(processor.tokenizer)} tokens, but the text tower knows {rows}. Name the "
            "tokenizer that it was trained with."
        )


def check_room(folder: Path, size: int) -> None:
    """Raise an OSError if the disk of a new folder has fewer than `size` bytes free."""
    place = next(parent for parent in folder.resolve().parents if parent.exists())
    if (free := shutil.disk_usage(place).free) < size:
        raise OSError(f"There are {free / 1e6:,.0f} MB free for {folder}, which needs {size / 1e6:,.0f} MB.")


def _file_names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files_in(folder)]


@contextmanager
def _printed_log() -> Iterator[None]:
    """Print the log of the package at level INFO."""
    logger, handler = logging.getLogger("modeling_atri"), logging.StreamHandler(sys.stdout)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
