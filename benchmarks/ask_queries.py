"""Ask models the queries of `query_set/queries.jsonl`, and keep what they find.

    python benchmarks/ask_queries.py --data $ATRI_SCENES --models runs/evidence/use-*-? runs/teaching/*-?

A model is a folder `<cell>-<seed>`, as `evidence.py` and `teaching.py` write them. The models must not have heard the
scenes of `dev/`. What they find goes to `results/evidence/queries_answers.parquet`, one row for each model, form of
query and way to ask. Models that were asked before are left out, unless their weights or the queries changed. The
report is made by `evidence.py queries --report`.
"""

from pathlib import Path

import numpy as np
import torch
from query_set.answers import Answers, ask, in_order
from query_set.results import ANSWERS, add_answers, is_done, read_answers
from query_set.rules import QUERIES, read_queries
from shared.options import option_parser
from shared.scenes import check_scenes, read_scenes
from tqdm import tqdm

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.encode import audio_fingerprint, encode_audio
from modeling_atri.files import content_digest


WEIGHTS = "model.safetensors"


def main() -> None:
    """Run the command."""
    parser = option_parser(__doc__, "about 20 CPU seconds for each model")
    parser.add_argument("--data", type=Path, help="folder with train/ and dev/")
    parser.add_argument("--models", nargs="+", type=Path, required=True, help="folders of models")
    parser.add_argument("--states", type=Path, default=Path("runs/evidence/text_states"), help="cache of text states")
    options = parser.parse_args()
    check_scenes(parser, options.data)
    for folder in options.models:
        name, _, seed = folder.name.rpartition("-")
        if not (folder / WEIGHTS).is_file() or not name or not seed.isdecimal():
            parser.error(f"{folder} must be a folder <cell>-<seed> with the file {WEIGHTS}")
    torch.set_num_threads(1)
    done, asked_with = read_answers(ANSWERS), content_digest(QUERIES)
    sounds: dict[str, np.ndarray] = {}
    for folder in tqdm(options.models, unit="model"):
        digests = (content_digest(folder / WEIGHTS), asked_with)
        if not is_done(done, folder.name, digests):
            answers = ask_model(folder, options.data / "dev", options.states, sounds)
            add_answers(ANSWERS, folder.name, digests, answers)


def ask_model(folder: Path, dev: Path, states: Path, known: dict[str, np.ndarray]) -> list[Answers]:
    """What a model finds for all queries among the scenes of a folder.

    Args:
        folder: folder of the model.
        dev: folder of the scenes.
        states: cache of the states of captions.
        known: embeddings of the scenes by the fingerprint of the audio side, which taught models share; added to.
    """
    queries = read_queries()
    scenes = in_order(read_scenes(dev / "metadata.jsonl"), queries)
    model, processor = AtriModel.from_pretrained(folder).eval(), AtriProcessor.from_pretrained(folder)
    audio_side = audio_fingerprint(model, processor)
    if audio_side not in known:
        known[audio_side] = encode_audio(model, processor, [dev / scene["file_name"] for scene in scenes])
    return ask(model, processor, known[audio_side], scenes, queries, states)


if __name__ == "__main__":
    main()
