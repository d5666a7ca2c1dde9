"""`atri convert`: turn weights of CED, SONAR and ML-CLAP into a folder that `from_pretrained` reads."""

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
from modeling_atri.hub_cards.results import RESULTS_NAME, write_results
from modeling_atri.sources import is_hub_id, public_name

from ..options import parse_options


if TYPE_CHECKING:
    from modeling_atri import AtriModel, AtriProcessor


DESCRIPTION = """\
Make an ATRI model and its processor from the weights of other projects, and save them to output_dir. The result is
loaded, trained and pushed like every other model.

The weights are either a released ML-CLAP checkpoint, or an audio tower (CED) and a text tower (SONAR or another
encoder), each as a file, a folder or a Hub id. With two towers, the projection heads are new: train them.

examples:
  atri convert --mlclap pretrain.pt --tokenizer facebook/nllb-200-distilled-600M mlclap/
  atri convert --ced mispeech/ced-base --sonar cointegrated/SONAR_200_text_encoder towers/
  atri convert --ced audiotransformer_base.pt --sonar sonar_text_encoder.pt \\
      --tokenizer facebook/nllb-200-distilled-600M towers/

If a weight is missing, unknown or of the wrong shape, the error names it, and nothing is written. Files are read
without running code that they contain. Models with SONAR's weights inherit their license, cc-by-nc-4.0.
"""

# Option -> project, in the order in which the sources are listed.
_PROJECTS = {"mlclap": "ML-CLAP", "ced": "CED", "sonar": "SONAR"}


@dataclass
class ConvertArguments:
    """Options of `atri convert`."""

    output_dir: str = field(metadata={"help": "Folder to write model and processor to.", "positional": True})
    mlclap: str | None = option(None, "File of an ML-CLAP checkpoint.")
    ced: str | None = option(None, "Audio tower: file, folder or Hub id of CED, or a saved AtriAudioModel.")
    sonar: str | None = option(None, "Text tower: file of SONAR, or folder or Hub id of SONAR or another encoder.")
    tokenizer: str | None = option(None, "Folder or Hub id. Default: that of --sonar, unless it is a file.")
    audio_heads: PositiveCount | None = option(None, "Attention heads of CED. Default: those published for its width.")
    text_heads: PositiveCount | None = option(None, "Attention heads of SONAR from a file. Default: those published.")
    projection_dim: PositiveCount | None = option(
        None, "Width of the embedding space under new heads. Default: 1024. ML-CLAP has its own."
    )
    temperature: Positive | None = option(
        None,
        "Softmax temperature to continue training with, e.g. the paper's 0.07. Default: the temperature "
        "in ML-CLAP's checkpoint, or 0.07 under new heads.",
    )
    seed: int = option(0, "Seed of the new projection heads.")
    overwrite: bool = option(False, "Write into a folder that holds other files than an earlier conversion.")

    def __post_init__(self):
        check_options(self)
        given = [f"--{name}" for name in _PROJECTS if getattr(self, name) is not None]
        if given not in (["--mlclap"], ["--ced", "--sonar"]):
            raise ValueError(f"Pass either --mlclap, or both --ced and --sonar; got {' '.join(given) or 'none'}.")
        if self.mlclap is not None and self.projection_dim is not None:
            raise ValueError("--projection_dim is for new heads; the heads of ML-CLAP are in its checkpoint.")
        if self.tokenizer is None and (self.sonar is None or os.path.isfile(self.sonar)):
            raise ValueError(
                "Name the text tower's tokenizer with --tokenizer; ML-CLAP and SONAR use the tokenizer of "
                "facebook/nllb-200-distilled-600M."
            )

    @property
    def sources(self) -> dict[str, str]:
        """The sources that were given: option -> file, folder or Hub id."""
        names = (*_PROJECTS, "tokenizer")
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
    from modeling_atri.pretrained import make_processor

    with _printed_log():
        tokenizer = args.tokenizer or args.sonar
        processor = make_processor(tokenizer, normalize_text=args.mlclap is not None)
        print(f"{tokenizer}: {len(processor.tokenizer)} tokens")
        model = _make_model(args)
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


def _make_model(args: ConvertArguments) -> "AtriModel":
    import torch

    from modeling_atri import AtriModel
    from modeling_atri.pretrained import from_mlclap_checkpoint, load_audio_tower, load_text_tower
    from modeling_atri.pretrained.joining import join_towers

    if args.mlclap is not None:
        model = from_mlclap_checkpoint(args.mlclap, args.audio_heads, args.text_heads)
    else:
        audio, text = load_audio_tower(args.ced, args.audio_heads), load_text_tower(args.sonar, args.text_heads)
        torch.manual_seed(args.seed)
        model = join_towers(AtriModel, audio, text, args.projection_dim or 1024)
    if args.temperature is not None:
        model.config.logit_scale_init_value = -math.log(args.temperature)
        model.logit_scale.data.fill_(model.config.logit_scale_init_value)
    return model


def _print_model(model: "AtriModel") -> None:
    for name, tower in {"audio": model.audio_model, "text": model.text_model}.items():
        config = tower.config
        print(
            f"{name} tower: {config.model_type}, {config.hidden_size} wide, {len(tower.state_dict())} tensors, "
            f"{tower.num_parameters():,} parameters"
        )
    print(f"model: {len(model.state_dict())} tensors, {model.num_parameters():,} parameters")


def _facts(args: ConvertArguments, model: "AtriModel") -> dict[str, Any]:
    """How the model was made, for its card; without the local parts of paths."""
    from modeling_atri.hub_cards.environment import describe_environment

    weights = {name: source for name, source in args.sources.items() if name in _PROJECTS}
    base_model = [source for source in weights.values() if is_hub_id(source, needs_owner=False)]
    fresh = {} if args.mlclap else {"fresh": ["audio_projection", "text_projection", "logit_scale"], "seed": args.seed}
    return {
        "model": {
            "num_parameters": model.num_parameters(),
            "projection_dim": model.config.projection_dim,
            # The name of a file says little about its content, so its project is named instead.
            "weights_from": [
                _PROJECTS[name] if os.path.isfile(source) else public_name(source) for name, source in weights.items()
            ],
            **({"base_model": base_model} if base_model else {}),
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
