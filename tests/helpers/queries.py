"""Made-up queries of `benchmarks/query_set`, whose folder must be on the path."""

from typing import Any

from modeling_atri.languages_atri import ATRI_LANGUAGES


def a_query(
    form: str = "words",
    has: tuple[str, ...] = ("dog_bark", "rain"),
    relation: str | None = None,
    lacks: tuple[str, ...] = (),
    num_right: int = 4,
    text: str = "dog, rain",
) -> Any:
    """A query with the same wording in all languages."""
    from query_set.rules import Query

    return Query(form, has, relation, lacks, num_right, {language: [text] for language in ATRI_LANGUAGES})
