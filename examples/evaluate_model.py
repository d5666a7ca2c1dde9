"""Evaluate a model on recordings with captions in several languages: recall, and consistency between languages.

python examples/evaluate_model.py quickstart clips/dev --languages en fr ja
"""

import argparse

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.hub_cards import results_table
from modeling_atri.languages_atri import resolve_languages
from modeling_atri.trainer import load_rows
from modeling_atri.trainer.evaluation import RetrievalSet, embed_retrieval_set, retrieval_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of an AtriModel")
    parser.add_argument("data", help="data in any form that `atri train --help` lists")
    parser.add_argument("--languages", nargs="+", default=["en", "fr"], help="language codes or English names")
    options = parser.parse_args()

    # 1. Load the model, and rows that have captions in all these languages
    model, processor = AtriModel.from_pretrained(options.model), AtriProcessor.from_pretrained(options.model)
    languages = resolve_languages(options.languages)
    rows = load_rows(options.data, languages=languages)

    # 2. Encode every clip and every caption once. `retrieval_set.positives` lists the clips that each caption fits
    retrieval_set = RetrievalSet.from_rows(rows, languages)
    embeddings = embed_retrieval_set(model, processor, retrieval_set, progress=True)

    # 3. Print the figures of each language, their means, and the consistency between languages
    table = retrieval_table(embeddings, retrieval_set.positives, anchor=languages[0])
    print(results_table(table, languages))

    # 4. Use the same embeddings for a question of your own: how often do all languages find the same clip first?
    first = [(text @ embeddings.audio.T).argmax(axis=1) for text in embeddings.text.values()]
    agree = sum(len(set(clips)) == 1 for clips in zip(*first, strict=True))
    print(f"All languages find the same first clip for {agree} of {len(first[0])} captions.")


if __name__ == "__main__":
    main()
