"""`atri convert`: the weights of CED, SONAR and ML-CLAP to a folder that `from_pretrained` reads."""

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

from modeling_atri.sources import is_hub_id

from ..loading import data_name
from ..options import parse_options


if TYPE_CHECKING:
    from modeling_atri import AtriModel, AtriProcessor


DESCRIPTION = """\
Make an ATRI model and its processor from the weights of other projects, and save them to output_dir, which then
loads, trains and pushes like any other model.

Either a released ML-CLAP checkpoint, whole; or an audio tower (CED) and a text tower (SONAR or another encoder), each
a file, a folder, or a Hub id, under projection heads that are fresh: train those.

examples:
  atri convert --mlclap pretrain.pt --tokenizer facebook/nllb-200-distilled-600M mlclap/
  atri convert --ced mispeech/ced-base --sonar cointegrated/SONAR_200_text_encoder towers/
  atri convert --ced audiotransformer_base.pt --sonar sonar_text_encoder.pt \\
      --tokenizer facebook/nllb-200-distilled-600M towers/

Every weight must be accounted for: what is missing, unknown or of another shape is named, and nothing is written.
Files are read without running code in them. What is made from SONAR's weights is licensed as they are, cc-by-nc-4.0.
"""


_LABELS = {"mlclap": "ML-CLAP", "ced": "CED", "sonar": "SONAR"}


@dataclass
class ConvertArguments:
    """Options of `atri convert`."""

    output_dir: str = field(metadata={"help": "Folder to write model and processor to.", "positional": True})
    mlclap: str | None = field(default=None, metadata={"help": "ML-CLAP checkpoint, a file."})
    ced: str | None = field(
        default=None, metadata={"help": "Audio tower: file, folder or Hub id of CED, or a saved AtriAudioModel."}
    )
    sonar: str | None = field(
        default=None,
        metadata={"help": "Text tower: file of SONAR, or folder or Hub id of it or another encoder of transformers."},
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "Folder or Hub id. Default: that of --sonar, where it is no file."}
    )
    audio_heads: int | None = field(
        default=None, metadata={"help": "Attention heads of CED. Default: those published for its width."}
    )
    text_heads: int | None = field(
        default=None, metadata={"help": "Attention heads of SONAR from a file. Default: those published."}
    )
    projection_dim: int | None = field(
        default=None, metadata={"help": "Width of the embedding space, 1024 unless given. ML-CLAP brings its own."}
    )
    temperature: float | None = field(
        default=None,
        metadata={
            "help": "Softmax temperature to go on training from, e.g. the paper's 0.07. Default: that of ML-CLAP's "
            "checkpoint; 0.07 under fresh heads."
        },
    )
    seed: int = field(default=0, metadata={"help": "Of the fresh projection heads."})
    overwrite: bool = field(
        default=False, metadata={"help": "Write into a folder that holds more than an earlier conversion."}
    )

    def __post_init__(self):
        given = [f"--{name}" for name in ("mlclap", "ced", "sonar") if getattr(self, name) is not None]
        if given not in (["--mlclap"], ["--ced", "--sonar"]):
            raise ValueError(f"Pass either --mlclap, or both --ced and --sonar; got {' '.join(given) or 'none'}.")
        if self.mlclap is not None and self.projection_dim is not None:
            raise ValueError("--projection_dim is for fresh heads; those of ML-CLAP are in its checkpoint.")
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise ValueError(f"--temperature must be a finite number above 0; got {self.temperature}.")
        if self.tokenizer is None and (self.sonar is None or os.path.isfile(self.sonar)):
            raise ValueError(
                "Name the text tower's tokenizer with --tokenizer; ML-CLAP's and SONAR's is that of "
                "facebook/nllb-200-distilled-600M."
            )


def main(argv: list[str]) -> None:
    """Run the command."""
    (args,) = parse_options(argv, (ConvertArguments,), DESCRIPTION, "atri convert")
    convert(args)


def convert(args: ConvertArguments) -> dict[str, Any]:
    """Read, convert, write; returns what is known of the model."""
    start = time.perf_counter()
    folder = Path(args.output_dir)
    check_output(folder, args.overwrite)
    if args.mlclap is not None and not os.path.isfile(args.mlclap):  # told before the Hub is asked for the tokenizer
        raise ValueError(f"There is no file {args.mlclap!r}. Name a released checkpoint of ML-CLAP.")
    from modeling_atri.files import folder_written_whole
    from modeling_atri.pretrained import make_processor

    with _told():
        processor = make_processor(args.tokenizer or args.sonar, normalize_text=args.mlclap is not None)
        print(f"{args.tokenizer or args.sonar}: {len(processor.tokenizer)} tokens")
        model = _make_model(args)
        if args.temperature is not None:
            model.config.logit_scale_init_value = -math.log(args.temperature)
            model.logit_scale.data.fill_(model.config.logit_scale_init_value)
    check_vocabulary(model, processor)
    facts = _facts(args, model)
    _print_model(model)
    size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    print(f"Writing {folder} ({size / 1e6:,.1f} MB) ...", flush=True)
    check_room(folder, size)
    with folder_written_whole(folder) as temporary:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        _save_facts(facts, temporary)
    peak = peak_memory_bytes()
    print(
        f"Wrote model and processor to {folder} in {time.perf_counter() - start:.0f} s"
        + (f", with at most {peak / 1e6:,.0f} MB of memory." if peak else ".")
    )
    return facts


def _make_model(args: ConvertArguments) -> "AtriModel":
    import torch

    from modeling_atri import AtriModel
    from modeling_atri.pretrained import from_mlclap_checkpoint, load_audio_tower, load_text_tower
    from modeling_atri.pretrained.joining import join_towers

    if args.mlclap is not None:
        return from_mlclap_checkpoint(args.mlclap, args.audio_heads, args.text_heads)
    audio, text = load_audio_tower(args.ced, args.audio_heads), load_text_tower(args.sonar, args.text_heads)
    torch.manual_seed(args.seed)
    return join_towers(AtriModel, audio, text, args.projection_dim or 1024)


def _print_model(model: "AtriModel") -> None:
    for name, tower in {"audio": model.audio_model, "text": model.text_model}.items():
        config = tower.config
        print(
            f"{name} tower: {config.model_type}, {config.hidden_size} wide, {len(tower.state_dict())} tensors, "
            f"{tower.num_parameters():,} parameters"
        )
    print(f"model: {len(model.state_dict())} tensors, {model.num_parameters():,} parameters")


def _facts(args: ConvertArguments, model: "AtriModel") -> dict[str, Any]:
    """How the model was made, for its card; of local paths only the last part."""
    from modeling_atri.hub_cards.environment import describe_environment

    sources = {name: getattr(args, name) for name in ("mlclap", "ced", "sonar", "tokenizer")}
    sources = {name: path for name, path in sources.items() if path is not None}
    labels = {name: label for name, label in _LABELS.items() if name in sources}
    # A file's own name says little; a folder is called after what is in it.
    weights = [
        label if os.path.isfile(sources[name]) else data_name(sources[name], None) for name, label in labels.items()
    ]
    hub_ids = [sources[name] for name in labels if is_hub_id(sources[name], needs_owner=False)]
    fresh = {} if args.mlclap else {"fresh": ["audio_projection", "text_projection", "logit_scale"], "seed": args.seed}
    return {
        "model": {
            "num_parameters": model.num_parameters(),
            "projection_dim": model.config.projection_dim,
            "weights_from": weights,
            **({"base_model": hub_ids} if hub_ids else {}),
        },
        "conversion": {
            **{name: data_name(path, None) for name, path in sources.items()},
            **fresh,
            **({} if args.temperature is None else {"temperature": args.temperature}),
        },
        "environment": describe_environment(),
    }


def _save_facts(facts: dict[str, Any], folder: Path) -> None:
    """The facts, with the names of all files: by them a later run knows an earlier conversion."""
    from modeling_atri.hub_cards.environment import RESULTS_NAME, save_json

    facts["conversion"]["files"] = sorted({*_files(folder), RESULTS_NAME})
    save_json(facts, folder / RESULTS_NAME)


def check_output(folder: Path, overwrite: bool) -> None:
    """Raise a ValueError unless the folder is new, empty, or holds nothing but an earlier conversion."""
    from modeling_atri.hub_cards.environment import RESULTS_NAME

    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. Name a folder to write to.")
    if overwrite or not folder.exists():
        return
    converted: list[str] = []
    if (folder / RESULTS_NAME).is_file():
        try:
            converted = json.loads((folder / RESULTS_NAME).read_text(encoding="utf-8"))["conversion"]["files"]
        except (ValueError, KeyError, TypeError):
            converted = []  # of another make: it counts as a file like any other
    if other := sorted(set(_files(folder)) - set(converted)):
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
    """Raise an OSError where there are less than `size` bytes free for a folder to come."""
    place = next(parent for parent in folder.resolve().parents if parent.exists())
    if (free := shutil.disk_usage(place).free) < size:
        raise OSError(f"There are {free / 1e6:,.0f} MB free for {folder}, which needs {size / 1e6:,.0f} MB.")


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def peak_memory_bytes() -> int | None:
    """The most memory that this process has had, memory-mapped pages of files included; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


@contextmanager
def _told() -> Iterator[None]:
    """What the package logs of reading and converting, printed."""
    logger, handler = logging.getLogger("modeling_atri"), logging.StreamHandler(sys.stdout)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
