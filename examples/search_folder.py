"""Embed a folder of sound files once, then find sounds by a sentence in any language of the model.

python examples/search_folder.py quickstart sounds/ "it is raining" --language en
python examples/search_folder.py quickstart sounds/ "il pleut" --language fr --top 3
"""

import argparse
from pathlib import Path

import numpy as np

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.encode import encode_audio, encode_text


SUFFIXES = {".wav", ".flac", ".ogg", ".mp3"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of an AtriModel")
    parser.add_argument("folder", type=Path, help="folder of sound files, searched with all below it")
    parser.add_argument("query", help="what to listen for")
    parser.add_argument("--language", default="en", help="language of the query: a code or an English name")
    parser.add_argument("--top", type=int, default=5, help="how many sounds to name")
    args = parser.parse_args()

    # 1. The model and its processor
    model, processor = AtriModel.from_pretrained(args.model), AtriProcessor.from_pretrained(args.model)

    # 2. One embedding a sound, kept beside the sounds for the next query
    paths = sorted(path for path in args.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        parser.error(f"there is no sound file ({', '.join(sorted(SUFFIXES))}) in {args.folder}")
    index = args.folder / "embeddings.npz"
    names = [str(path.relative_to(args.folder)) for path in paths]
    if index.exists() and np.load(index)["names"].tolist() == names:
        audio = np.load(index)["audio"]
    else:
        audio = encode_audio(model, processor, paths, pad_short=True, progress=True)
        np.savez(index, names=names, audio=audio)

    # 3. Cosine similarity of the query to each
    scores = audio @ encode_text(model, processor, args.query, args.language)[0]
    for place in np.argsort(-scores)[: args.top]:
        print(f"{scores[place]:.3f}  {names[place]}")


if __name__ == "__main__":
    main()
