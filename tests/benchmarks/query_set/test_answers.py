"""What is found for queries, with made-up embeddings, and the file of it."""

import numpy as np
import pytest

from modeling_atri.languages_atri import ATRI_LANGUAGES
from tests.helpers.queries import a_query


CLASSES = ("dog", "rain", "sea")
DOG, RAIN, SEA = np.eye(3, 9)  # directions of the sounds; the others are those of the relations


def vector_of(sounds, relation=None):
    """The sum of the directions of the sounds, the first one a little longer, and of the relation."""
    table = dict(zip(CLASSES, (DOG, RAIN, SEA), strict=True))
    relations = dict(zip(("then", "while", "only"), np.eye(3, 9, 3), strict=True))
    vector = sum((1.2 - 0.4 * place) * table[one] for place, one in enumerate(sounds))
    vector = vector + (0.5 * relations[relation] if relation else 0)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.fixture
def asked(monkeypatch):
    """A model that understands every query in every language but French, where it finds "sea, only" first."""
    import query_set.answers as answers
    from query_set.rules import all_triples

    queries = [a_query("word", (one,), num_right=9, text=one) for one in CLASSES]
    queries += [a_query("words", (one, other), text=f"{one} {other}") for one, other in (("dog", "sea"),)]
    queries += [a_query("short", ("rain", "dog"), "then", num_right=1, text="rain then dog")]
    queries += [a_query("paraphrase", ("sea",), "only", num_right=1, text="sea only")]
    queries += [a_query("without", ("dog",), None, ("rain",), num_right=5, text="dog rain")]  # "without" is not heard
    triples = all_triples(CLASSES)
    texts = [" ".join(triple.split("|")) for triple in triples]
    scenes = [
        {"triple": triple, "captions": {language: [text] for language in ATRI_LANGUAGES}}
        for triple, text in zip(triples, texts, strict=True)
    ]

    def encode_text(model, processor, texts, language):
        if language == "fra_Latn":
            return np.stack([vector_of(("sea",), "only")] * len(texts))
        words = [text.split() for text in texts]
        return np.stack(
            [vector_of([word for word in of_text if word in CLASSES], *({*of_text} - {*CLASSES})) for of_text in words]
        )

    class Model:
        class config:  # noqa: N801
            text_config = None

    monkeypatch.setattr(answers, "encode_text", encode_text)
    sounds = np.stack([vector_of(triple.split("|")[::2], triple.split("|")[1]) for triple in triples])
    return queries, answers.ask(Model(), None, sounds, answers.in_order(scenes[::-1], queries), queries, None)


def test_right_scenes_are_first_where_the_model_understands(asked):
    from query_set.found import read_found

    queries, answers = asked
    assert [(one.form, one.way) for one in answers] == [
        *((form, "typed") for form in ("captions", "word", "words", "short", "paraphrase", "without")),
        *(("without", way) for way in ("alone", "subtracted")),
    ]
    assert [one.ranks.shape for one in answers[:3]] == [(8, 15), (8, 3), (8, 1)]
    rows = [
        {"cell": "x", "seed": 0, "form": one.form, "way": one.way, "first": one.first, "r_precision": one.r_precision}
        | {"doubled_ranks": 2 * one.ranks}
        for one in answers
    ]
    found = read_found(rows, queries)
    french = list(ATRI_LANGUAGES).index("fra_Latn")
    for form in ("captions", "word", "short", "paraphrase"):
        hits = found["x", form, "typed"].hits
        assert hits[:, [place for place in range(8) if place != french]].all()
    assert found["x", "paraphrase", "typed"].variance.tolist() == [[0.0]]
    assert found["x", "short", "typed"].recall.tolist() == found["x", "short", "typed"].sounds.tolist() == [[7 / 8]]
    assert found["x", "short", "typed"].variance[0, 0] > 0
    # "dog rain" finds both sounds first; the bare noun finds the dog alone, and subtracting rain keeps it.
    assert found["x", "without", "typed"].recall.tolist() == [[0.0]]
    assert found["x", "without", "typed"].lacks.tolist() == [[1 / 8]]
    assert found["x", "without", "alone"].recall.tolist() == [[7 / 8]]
    assert found["x", "without", "subtracted"].recall.tolist() == [[7 / 8]]
    assert answers[-1].r_precision == answers[-2].r_precision > answers[-3].r_precision


def test_scenes_must_be_complete(asked):
    from query_set.answers import ask

    queries, _ = asked
    with pytest.raises(ValueError, match="in the order of"):
        ask(None, None, None, [{"triple": "dog|only"}], queries, None)


def test_answers_of_a_model_replace_its_earlier_ones(asked, tmp_path):
    from query_set.results import add_answers, is_done, read_answers

    _, answers = asked
    file = tmp_path / "results" / "answers.parquet"
    add_answers(file, "use-kcl-0", ("weights", "queries"), answers)
    add_answers(file, "use-akcl-10", ("weights", "queries"), answers[:1])
    add_answers(file, "use-kcl-0", ("new", "queries"), answers[:2])
    rows = read_answers(file)
    assert [(row["cell"], row["seed"], row["form"]) for row in rows] == [
        ("use-akcl", 10, "captions"),
        *(("use-kcl", 0, form) for form in ("captions", "word")),
    ]
    np.testing.assert_array_equal(rows[0]["doubled_ranks"], 2 * answers[0].ranks)
    np.testing.assert_array_equal(rows[0]["first"], answers[0].first)
    assert is_done(rows, "use-kcl-0", ("new", "queries"))
    assert not is_done(rows, "use-kcl-0", ("weights", "queries"))
    assert not is_done(rows, "use-kcl-1", ("new", "queries"))
