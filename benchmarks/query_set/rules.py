"""The rules that make the queries, and the short captions that a study adds to the training scenes.

`words.json` has, for each class of sounds and language, the bare noun and two descriptions in other words than the
training captions have; and for each form of query the templates that combine them. Two wordings of a template differ
in the order of the two sounds where the language allows that. The class names, and the clauses such as "a dog barks",
are those of the scenes (`captions.json`). All texts with the same index mean the same in every language. They were
written by machine, and no native speaker has read them.
"""

import json
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

from modeling_atri.files import write_json_lines


FOLDER = Path(__file__).parent
QUERIES = FOLDER / "queries.jsonl"
FORMS = {
    "word": "one sound",
    "words": "two sounds",
    "short": "short form",
    "paraphrase": "paraphrase",
    "without": "one sound without another",
}
Texts = dict[str, list[str]]  # by language: wordings, which are parallel
Names = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Query:
    """What is asked for, in several wordings and all languages.

    Args:
        form: a key of `FORMS`.
        has: classes of the sounds that are named, the first (`then`) or the one in the foreground (`while`) first.
        relation: `then`, `while` or `only` if the query says it.
        lacks: classes of the sounds that are to be absent.
        num_right: number of the scenes that are right, among all scenes of one or two of the ten classes.
        texts: wordings by language.
    """

    form: str
    has: tuple[str, ...]
    relation: str | None
    lacks: tuple[str, ...]
    num_right: int
    texts: Texts

    def fits(self, triple: str) -> bool:
        """Whether a scene is a right answer. `triple` is `A|then|B`, `A|while|B` or `A|only`."""
        first, relation, *second = triple.split("|")
        if self.relation is not None:
            return relation == self.relation and (first, *second) == self.has
        sounds = {first, *second}
        return sounds.issuperset(self.has) and sounds.isdisjoint(self.lacks)


def read_queries(file: Path = QUERIES) -> list[Query]:
    """Read the file of queries."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [Query(**line | {name: tuple(line[name]) for name in ("has", "lacks")}) for line in lines]


def write_queries(queries: Sequence[Query], file: Path = QUERIES) -> None:
    """Write the file of queries."""
    write_json_lines(file, map(asdict, queries))


@cache
def words() -> dict[str, Any]:
    """The words and templates of `words.json`."""
    read: dict[str, Any] = json.loads((FOLDER / "words.json").read_text(encoding="utf-8"))
    return read


def all_triples(classes: Sequence[str]) -> list[str]:
    """All scenes of one sound or two different ones."""
    pairs = [f"{a}|{relation}|{b}" for relation in ("then", "while") for a, b in permutations(classes, 2)]
    return pairs + [f"{one}|only" for one in classes]


def scene_triples(queries: Sequence[Query]) -> list[str]:
    """All scenes of the classes that the queries name, in the order in which they are counted."""
    return all_triples([query.has[0] for query in queries if query.form == "word"])


def make_queries(captions: Mapping[str, Any]) -> list[Query]:
    """Make all queries, from the content of the scenes' `captions.json`."""
    classes = list(captions["classes"])
    triples = all_triples(classes)
    queries = []
    for form, has, relation, lacks in _meanings(classes):
        texts = {
            language: list(_texts(form, relation, (*has, *lacks), language, captions["classes"]))
            for language in captions["languages"]
        }
        query = Query(form, has, relation, lacks, 0, texts)
        num_right = sum(map(query.fits, triples))
        queries.append(Query(form, has, relation, lacks, num_right, texts))
    return queries


def _meanings(classes: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...], str | None, tuple[str, ...]]]:
    """Form, sounds, relation and absent sounds of each query."""
    for one in classes:
        yield "word", (one,), None, ()
    # Both orders mean the same, and every second pair is asked for the other way round.
    for place, pair in enumerate(combinations(classes, 2)):
        yield "words", pair[:: -1 if place % 2 else 1], None, ()
    for form in ("short", "paraphrase"):
        for triple in all_triples(classes):
            first, relation, *second = triple.split("|")
            yield form, (first, *second), relation, ()
    for a, b in permutations(classes, 2):
        yield "without", (a,), None, (b,)


def _texts(
    form: str, relation: str | None, sounds: tuple[str, ...], language: str, scenes: Mapping[str, Any]
) -> Iterator[str]:
    """The wordings of a query in a language. `scenes` has the forms that the scenes' captions are made of."""
    own = [words()["classes"][one][language] for one in sounds]
    nouns = [one["noun"] for one in own]
    names = [scenes[one][language]["class_name"] for one in sounds]
    if form == "word":
        yield from (nouns[0], names[0], scenes[sounds[0]][language]["clause"])
    elif form == "words":
        template = words()["query_templates"][form][language]
        yield from (_filled(template, texts) for texts in (nouns, names))
    elif form == "without":
        yield _filled(words()["query_templates"][form][language], [nouns[0], own[1].get("absent", nouns[1])])
    else:
        for place, template in enumerate(words()["query_templates"][form][relation][language]):
            texts = nouns if form == "short" else [one["other"][place] for one in own]
            yield joined(_filled(template, texts), language)


def joined(text: str, language: str) -> str:
    """A text without the spaces that separate words in the Japanese and Chinese of `words.json`."""
    return text.replace(" ", "") if language in ("jpn_Jpan", "zho_Hans") else text


def class_names(queries: Sequence[Query]) -> Names:
    """The names of the classes by class and language, from the queries for one sound: "dog bark"."""
    return {
        query.has[0]: {language: texts[1] for language, texts in query.texts.items()}
        for query in queries
        if query.form == "word"
    }


def short_captions(triple: str, names: Names) -> Texts:
    """Short captions of a scene for training, which are no queries: with class names and templates of their own.

    Args:
        triple: the scene.
        names: names of classes, as `class_names` returns them.

    Returns:
        By language two texts: the sounds with their relation ("dog bark, later rain"), and without ("dog bark and
        rain"). The second fits all scenes of the two sounds.
    """
    first, relation, *second = triple.split("|")
    return {
        language: [_filled(template, [names[one][language] for one in (first, *second)]) for template in templates]
        for language, templates in words()["training_templates"][relation].items()
    }


def _filled(template: str, texts: Sequence[str]) -> str:
    return template.format(**dict(zip("ab", texts, strict=False)))


def content_words(text: str, language: str) -> set[str]:
    """The words of a description or template of `words.json` that carry its meaning, in small letters."""
    return {word for word in _words(re.sub(r"{\w}", " ", text)) if word not in words()["function_words"][language]}


def known_words(captions: Sequence[str], language: str) -> Container[str]:
    """What contains every word of some captions; in Japanese and Chinese, every part of a caption."""
    if language in ("jpn_Jpan", "zho_Hans"):
        return "\n".join(captions)
    return {word for caption in captions for word in _words(caption)}


def shared_words(text: str, language: str, known: Container[str]) -> set[str]:
    """The content words of a text that captions have, given their `known_words`."""
    return {word for word in content_words(text, language) if word in known}


def plain(text: str) -> str:
    """A text in small letters, without punctuation, in which two texts are compared."""
    return " ".join(_words(text))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
