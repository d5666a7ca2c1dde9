"""Index a folder of sound files, and find sounds, or moments in them, with a sentence in any language of the model.

python examples/search_folder.py quickstart sounds/ "it is raining"
python examples/search_folder.py quickstart sounds/ "il pleut" --language fr --by moment --top 3
"""

import argparse
from pathlib import Path

from modeling_atri.search import SoundIndex


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of an AtriModel")
    parser.add_argument("folder", type=Path, help="folder of sound files; its subfolders are searched, too")
    parser.add_argument("query", help="description of the sound, e.g. 'it is raining'")
    parser.add_argument("--language", help="language of the query (default: found from the query)")
    parser.add_argument("--by", default="file", choices=["file", "moment"], help="what to find")
    parser.add_argument("--top", type=int, default=5, help="number of hits to show")
    parser.add_argument("--index", type=Path, help="folder of the index (default: .index in FOLDER)")
    args = parser.parse_args()

    try:
        # 1. Open the index, or make it, and bring it up to date: only new and changed files are encoded
        index = SoundIndex.open(args.index or args.folder / ".index", args.model)
        summary = index.add(args.folder, pad_short=True, progress=True)
        for name, reason in summary.failures.items():
            print(f"left out: {name}: {reason}")

        # 2. Show what fits best, with the cosine similarity
        for hit in index.search(args.query, language=args.language, top_k=args.top, by=args.by):
            print(f"{hit.score:.3f}  {hit.path}  {hit.start_s:.1f} to {hit.end_s:.1f} s")
    except ValueError as error:  # no such folder, no sound in it, or an index of another model
        parser.error(str(error))


if __name__ == "__main__":
    main()
