"""Whether the same question finds the same sounds in several languages: the paper's consistency, for one question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from modeling_atri.hub_cards.tables import text_table
from modeling_atri.languages_atri import find_language, iso_code, resolve_language

from .hits import Hit, hit_as_dict


DEPTH = 100  # hits of each language in which the others' first hits are looked for


@dataclass(frozen=True)
class Agreement:
    """The hits of one question in several languages, and how far they agree.

    Sounds are compared by their files, so moments of one file count as the same.

    Args:
        hits: the hits of each language, best first, by FLORES-200 code; up to `depth` of them.
        queries: the text of each language.
        top_k (`int`): number of hits that overlaps compare.
        depth (`int`): number of hits in which ranks are looked for.
    """

    hits: Mapping[str, Sequence[Hit]]
    queries: Mapping[str, str]
    top_k: int = 10
    depth: int = DEPTH

    @property
    def languages(self) -> list[str]:
        """FLORES-200 codes, in the order in which the texts were given."""
        return list(self.hits)

    def first(self, language: str) -> list[tuple[str, str]]:
        """Folder and path of the first `top_k` sounds of a language."""
        return _sounds(self.hits[language])[: self.top_k]

    @property
    def overlap(self) -> float:
        """The share of the first `top_k` sounds that two languages have in common: the mean over all pairs."""
        shares = [_share(self.first(one), self.first(other)) for one, other in combinations(self.languages, 2)]
        return float(np.mean(shares)) if shares else 1.0

    def overlap_of(self, language: str) -> float:
        """The share of the first `top_k` sounds that a language has in common with another: the mean over others."""
        others = [other for other in self.languages if other != language]
        shares = [_share(self.first(language), self.first(other)) for other in others]
        return float(np.mean(shares)) if shares else 1.0

    @property
    def found_by_all(self) -> list[tuple[str, str]]:
        """Folder and path of the sounds that are among the first `top_k` of every language."""
        common = set.intersection(*(set(self.first(language)) for language in self.languages))
        return [sound for sound in self.first(self.languages[0]) if sound in common]

    @property
    def ranks(self) -> dict[str, dict[str, int | None]]:
        """`ranks[one][other]`: the rank, from 1, that the first sound of language `one` has in language `other`.

        It is None if the sound is not among the first `depth` ones.
        """
        places = {
            language: {sound: rank for rank, sound in enumerate(_sounds(hits), 1)}
            for language, hits in self.hits.items()
        }
        return {
            one: {other: places[other].get(self.first(one)[0]) if self.first(one) else None for other in places}
            for one in places
        }

    @property
    def rank_variance(self) -> float:
        """The variance over the languages (population form) of the rank of a first sound: the mean over first sounds.

        Sounds that are the first of several languages count once. A sound that is not among the first `depth` ones of
        a language has the rank `depth + 1` there. The paper's MRV is the same figure for sounds that are known to be
        right.
        """
        by_sound = {
            self.first(language)[0]: list(ranks.values())
            for language, ranks in self.ranks.items()
            if self.first(language)
        }
        variances = [
            np.var([self.depth + 1 if rank is None else rank for rank in ranks]) for ranks in by_sound.values()
        ]
        return float(np.mean(variances)) if variances else 0.0

    def table(self) -> str:
        """A table of text: for each language its question, its first sound, and where the others rank this sound."""
        codes = [iso_code(language) for language in self.languages]
        header = ["language", "first sound", "score", "overlap", *(f"in {code}" for code in codes), "question"]
        rows = []
        for language, ranks in self.ranks.items():
            hits = self.hits[language]
            shown = [hits[0].path, f"{hits[0].score:.2f}"] if hits else ["-", "-"]
            others = [f"> {self.depth}" if rank is None else str(rank) for rank in ranks.values()] if hits else []
            rows.append(
                [
                    find_language(language).name,
                    *shown,
                    f"{100 * self.overlap_of(language):.0f} %",
                    *(others or ["-"] * len(codes)),
                    self.queries[language],  # last, since characters of some scripts are wider than others
                ]
            )
        return text_table(header, rows, align="<<" + ">" * (len(header) - 3) + "<", rules={0})

    def as_dict(self) -> dict[str, Any]:
        """All figures and the first `top_k` hits of each language, as values of JSON."""
        return {
            "overlap": self.overlap,
            "found_by_all": [path for _, path in self.found_by_all],
            "rank_variance": self.rank_variance,
            "ranks": self.ranks,
            "languages": {
                language: {
                    "query": self.queries[language],
                    "hits": [hit_as_dict(hit, rank) for rank, hit in enumerate(hits[: self.top_k], 1)],
                }
                for language, hits in self.hits.items()
            },
        }

    def summary(self) -> str:
        """Two sentences with the figures of all languages together."""
        num_common, most = len(self.found_by_all), max(len(self.first(language)) for language in self.languages)
        return (
            f"Two languages share {100 * self.overlap:.0f} % of their first {most} sounds on average, and all of them "
            f"share {num_common}. The rank of a first sound varies by {self.rank_variance:.1f} over the languages "
            "(variance; 0 if all agree)."
        )


def by_code(queries: Mapping[str, str]) -> dict[str, str]:
    """The texts of a question by FLORES-200 code.

    Raises:
        ValueError: there are fewer than two languages, or one is unknown or given twice.
    """
    texts: dict[str, str] = {}
    for name, text in queries.items():
        code = resolve_language(name)
        if code in texts:
            raise ValueError(f"The language {name!r} ({code}) is given twice. Keep one of its texts.")
        texts[code] = text
    if len(texts) < 2:
        raise ValueError(
            f"To compare languages, give the question in at least two, such as {{'en': 'a dog barks', 'fr': 'un chien "
            f"aboie'}}; got {len(texts)}."
        )
    return texts


def _sounds(hits: Sequence[Hit]) -> list[tuple[str, str]]:
    """Folder and path of the sounds of hits, each once, in their order."""
    return list(dict.fromkeys((hit.folder, hit.path) for hit in hits))


def _share(one: Sequence[tuple[str, str]], other: Sequence[tuple[str, str]]) -> float:
    most = max(len(one), len(other))
    return len(set(one) & set(other)) / most if most else 1.0
