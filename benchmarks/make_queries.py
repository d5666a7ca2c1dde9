"""Make the queries as people type them, and check them against the ESC-10 scenes.

The rules are in `query_set/rules.py` and the words in `query_set/words.json`. The queries are written to
`query_set/queries.jsonl`, one meaning in a line: `form`, the sounds that it `has` and `lacks`, the `relation` if it
says one, the number of the right scenes, and its wordings by language.

    python benchmarks/make_queries.py --data $ATRI_SCENES
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from query_set.checks import ambiguous, seen_in_training, words_of_training, wrong_answers
from query_set.rules import FORMS, Query, class_names, make_queries, short_captions, write_queries
from shared.options import option_parser
from shared.scenes import check_scenes, read_scenes


def main() -> None:
    """Run the command."""
    parser = option_parser(__doc__, "a few seconds")
    parser.add_argument("--data", type=Path, help="folder with train/, dev/ and captions.json")
    data = parser.parse_args().data
    check_scenes(parser, data)
    captions = json.loads((data / "captions.json").read_text(encoding="utf-8"))
    queries = make_queries(captions)
    if found := problems(queries, data):
        sys.exit("\n".join(found))
    write_queries(queries)
    for form, title in FORMS.items():
        of_form = [query for query in queries if query.form == form]
        texts = [text for query in of_form for text in query.texts["eng_Latn"]]
        right = {query.num_right for query in of_form}
        print(f"{form} ({title}): {len(texts)} texts in each language, {right} right, such as {texts[:3]}")


def problems(queries: Sequence[Query], data: Path) -> list[str]:
    """What does not hold about the queries. The short captions of `short_captions` count as training captions."""
    triples = [row["triple"] for row in read_scenes(data / "dev" / "metadata.jsonl")]
    training = training_captions(data)
    names = class_names(queries)
    found = ambiguous(queries) + wrong_answers(queries, triples) + words_of_training(training)
    for triple in triples:
        for language, texts in short_captions(triple, names).items():
            training[language] += texts
    return found + seen_in_training(queries, training)


def training_captions(data: Path) -> dict[str, list[str]]:
    """All captions of `train/` by language, each once."""
    captions: dict[str, dict[str, None]] = {}
    for row in read_scenes(data / "train" / "metadata.jsonl"):
        for language, texts in row["captions"].items():
            captions.setdefault(language, {}).update(dict.fromkeys(texts))
    return {language: list(texts) for language, texts in captions.items()}


if __name__ == "__main__":
    main()
