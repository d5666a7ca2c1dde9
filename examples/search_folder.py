"""Embed a folder of sound files once, then find sounds by a sentence in any language of the model.

python examples/search_folder.py quickstart sounds/ "it is raining" --language en
python examples/search_folder.py quickstart sounds/ "il pleut" --language fr --top 3
"""

import argparse
from pathlib import Path

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.embedding_store import load_embeddings
from modeling_atri.encode import encode_folder, encode_text
from modeling_atri.top_k_atri import best_places


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of an AtriModel")
    parser.add_argument("folder", type=Path, help="folder of sound files, searched with all below it")
    parser.add_argument("query", help="what to listen for")
    parser.add_argument("--language", default="en", help="language of the query: a code or an English name")
    parser.add_argument("--top", type=int, default=5, help="how many sounds to name")
    parser.add_argument("--embeddings", type=Path, help="where they are kept; default: .embeddings in the folder")
    args = parser.parse_args()

    # 1. The model and its processor
    model, processor = AtriModel.from_pretrained(args.model), AtriProcessor.from_pretrained(args.model)

    # 2. One embedding a sound, kept for the next query: only what is new or changed is encoded
    kept = args.embeddings or args.folder / ".embeddings"
    try:
        summary = encode_folder(model, processor, args.folder, kept, pad_short=True, progress=True)
    except ValueError as error:  # no folder, no sound in it, or embeddings of another model
        parser.error(str(error))
    for name, reason in summary.failures.items():
        print(f"left out: {name}: {reason}")
    names, audio = load_embeddings(kept)

    # 3. Cosine similarity of the query to each
    scores = audio @ encode_text(model, processor, args.query, args.language)[0]
    for place in best_places(scores, args.top):
        print(f"{scores[place]:.3f}  {names[place]}")


if __name__ == "__main__":
    main()
