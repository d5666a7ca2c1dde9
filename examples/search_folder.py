"""Embed a folder of sound files once, and search it with a sentence in any language of the model.

python examples/search_folder.py quickstart sounds/ "it is raining" --language en
python examples/search_folder.py quickstart sounds/ "il pleut" --language fr --top 3
"""

import argparse
from pathlib import Path

from modeling_atri import AtriModel, AtriProcessor, encode_folder, encode_text, load_embeddings
from modeling_atri.top_k_atri import best_places


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of an AtriModel")
    parser.add_argument("folder", type=Path, help="folder of sound files; its subfolders are searched, too")
    parser.add_argument("query", help="description of the sound, e.g. 'it is raining'")
    parser.add_argument("--language", default="en", help="language of the query, a code or an English name")
    parser.add_argument("--top", type=int, default=5, help="number of sounds to show")
    parser.add_argument("--embeddings", type=Path, help="folder of embeddings (default: .embeddings in FOLDER)")
    args = parser.parse_args()

    # 1. Load the model and its processor
    model, processor = AtriModel.from_pretrained(args.model), AtriProcessor.from_pretrained(args.model)

    # 2. Encode the sounds. Embeddings are kept, so later queries encode only new and changed files
    kept = args.embeddings or args.folder / ".embeddings"
    try:
        summary = encode_folder(model, processor, args.folder, kept, pad_short=True, progress=True)
    except ValueError as error:  # no such folder, no sound in it, or embeddings of another model
        parser.error(str(error))
    for name, reason in summary.failures.items():
        print(f"left out: {name}: {reason}")
    names, audio = load_embeddings(kept)

    # 3. Show the sounds with the highest cosine similarity to the query
    scores = audio @ encode_text(model, processor, args.query, args.language)[0]
    for place in best_places(scores, args.top):
        print(f"{scores[place]:.3f}  {names[place]}")


if __name__ == "__main__":
    main()
