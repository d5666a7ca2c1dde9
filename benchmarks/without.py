"""Measure what `without` does: how often the scene that ranks first has A and not B, where "A without B" is asked for.

The archives are scenes of one or two sounds. A question names a sound A and a sound B that is to be absent, in each of
the eight languages. It is asked for every pair for which the archive has scenes with both and scenes with A alone or
beside others. Several ways to score are compared:

    plain       the question for A, without regard to B
    typed       "A without B" as one text, in words of the language
    removed     the part of the question that points to B is taken out of it
    linear      cos(A, sound) - weight * (cos(B, sound) - cos(B, mean sound))
    clipped     cos(A, sound) - weight * max(0, cos(B, sound) - quantile of cos(B, archive))

The weight was chosen with `--tune` on combinations of the training scenes, which are rendered anew. The other archives
have held-out combinations, and real recordings.

    atri quickstart --output_dir runs/q0
    atri quickstart --output_dir runs/q1 --seed 1
    python benchmarks/without.py --models runs/q0 --tune
    python benchmarks/without.py --models runs/q0 runs/q1 --real-models runs/esc10/dev/akcl --data $ATRI_SCENES
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from shared.measuring import cpu_model
from shared.options import option_parser
from shared.scenes import check_scenes, read_scenes

from modeling_atri import AtriModel, AtriProcessor, __version__, encode_audio, encode_text
from modeling_atri.corpora.soundscapes.captions import bare_captions
from modeling_atri.corpora.soundscapes.combinations import all_combinations, is_heldout
from modeling_atri.corpora.soundscapes.scenes import make_scene, make_soundscapes
from modeling_atri.corpora.soundscapes.sources import SOURCES
from modeling_atri.hub_cards.tables import text_table
from modeling_atri.languages_atri import ATRI_LANGUAGES, iso_code
from modeling_atri.search.questions import ABSENCE_WEIGHT


RESULTS = Path(__file__).parent / "results" / "without.json"
TABLES = RESULTS.with_suffix(".md")
TYPED = {
    "eng_Latn": "{a} without {b}",
    "fra_Latn": "{a} sans {b}",
    "deu_Latn": "{a} ohne {b}",
    "spa_Latn": "{a} sin {b}",
    "nld_Latn": "{a} zonder {b}",
    "cat_Latn": "{a} sense {b}",
    "jpn_Jpan": "{b}なしの{a}",
    "zho_Hans": "没有{b}的{a}",
}
WEIGHTS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5)
QUANTILES = (0.25, 0.5, 0.75)
FIGURES = {
    "lacks_b": "the first scene does not have B",
    "right": "the first scene has A and does not have B",
    "before_wrong": "of the scenes with A, one without B comes before all with B",
    "repaired": "of the questions for which A alone finds a scene with A and B first, those whose first lacks B now",
    "r_precision": "of the first R scenes, those that have A and not B, where R is the number of such scenes",
}
COLUMNS = {
    "lacks_b": "first lacks B",
    "right": "first right",
    "before_wrong": "before wrong",
    "repaired": "repaired",
    "r_precision": "R-precision",
}
CHOSEN = f"linear {ABSENCE_WEIGHT:g}"
REPORTED = {
    "plain": "A alone",
    "typed": '"A without B" typed',
    "removed": "B taken out of A",
    CHOSEN: f"{CHOSEN} (as `without` does)",
    f"clipped {ABSENCE_WEIGHT:g} 0.5": f"clipped {ABSENCE_WEIGHT:g} at the median",
}
NUM_TUNE, FIRST_TUNE = 500, 500_000  # scenes, and an index at which no training scene is rendered


@dataclass(frozen=True)
class Archive:
    """Scenes: their embeddings, the sources that each has, and texts of each source by language."""

    sounds: np.ndarray
    sources: Sequence[frozenset[str]]
    texts: Mapping[str, Mapping[str, Sequence[str]]]

    def pairs(self) -> list[tuple[str, str]]:
        """Sources (A, B) of which some scenes have both, and some have A and not B."""
        names = sorted(self.texts)
        return [
            (a, b)
            for a, b in permutations(names, 2)
            if any({a, b} <= scene for scene in self.sources)
            and any(a in scene and b not in scene for scene in self.sources)
        ]


# Each way takes the embeddings of A, B and "A without B" `(questions, dim)`, and those of the sounds `(n, dim)`, and
# returns scores `(questions, n)`.
Way = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def removed(a: np.ndarray, b: np.ndarray, _: np.ndarray, sounds: np.ndarray) -> np.ndarray:
    """The question without its part along B."""
    return (a - (a * b).sum(axis=1, keepdims=True) * b) @ sounds.T


def linear(weight: float) -> Way:
    """The cosine to B, compared with that of the mean sound, is subtracted. The mean does not change the order."""
    return lambda a, b, _, sounds: a @ sounds.T - weight * (b @ (sounds - sounds.mean(axis=0)).T)


def clipped(weight: float, quantile: float) -> Way:
    """Only what the cosine to B exceeds a quantile of the archive by is subtracted."""

    def score(a: np.ndarray, b: np.ndarray, _: np.ndarray, sounds: np.ndarray) -> np.ndarray:
        to_b = b @ sounds.T
        return a @ sounds.T - weight * np.maximum(0.0, to_b - np.quantile(to_b, quantile, axis=1, keepdims=True))

    return score


def all_ways() -> dict[str, Way]:
    """The ways that are compared, by name."""
    return {
        "plain": lambda a, b, typed, sounds: a @ sounds.T,
        "typed": lambda a, b, typed, sounds: typed @ sounds.T,
        "removed": removed,
        **{f"linear {weight:g}": linear(weight) for weight in WEIGHTS},
        **{f"clipped {weight:g} {q:g}": clipped(weight, q) for q in QUANTILES for weight in WEIGHTS},
    }


def judge(
    archive: Archive, model: AtriModel, processor: AtriProcessor, ways: Mapping[str, Way], language: str
) -> dict[str, dict[str, float]]:
    """Shares of the questions of a language, for each way: `FIGURES`."""
    asked = list(questions(archive, language))
    vectors = [encode_text(model, processor, list(texts), language) for texts in list(zip(*asked, strict=True))[2:]]
    has_a, has_b = (
        np.array([[one[place] in scene for scene in archive.sources] for one in asked]) for place in (0, 1)
    )
    right, wrong = has_a & ~has_b, has_a & has_b
    first_of_a = (vectors[0] @ archive.sounds.T).argmax(axis=1)
    is_hard = np.take_along_axis(wrong, first_of_a[:, None], axis=1)[:, 0]
    figures = {}
    for name, way in ways.items():
        scores = way(*vectors, archive.sounds)
        order = np.argsort(-scores, axis=1, kind="stable")
        first = order[:, :1]
        ranked = np.take_along_axis(right, order, axis=1)
        best_right = np.where(right, scores, -np.inf).max(axis=1)
        best_wrong = np.where(wrong, scores, -np.inf).max(axis=1)
        num_right = right.sum(axis=1)
        found = (ranked & (np.arange(ranked.shape[1]) < num_right[:, None])).sum(axis=1) / num_right
        lacks_b = ~np.take_along_axis(has_b, first, axis=1)[:, 0]
        values = (lacks_b, ranked[:, 0], best_right > best_wrong, lacks_b[is_hard], found)
        figures[name] = {figure: float(np.mean(value)) for figure, value in zip(FIGURES, values, strict=True)}
    return figures


def questions(archive: Archive, language: str) -> Iterator[tuple[str, str, str, str, str]]:
    """Sources A and B, texts of A and B of one form ("a dog barks" with "it is raining"), and "A without B" typed."""
    for a, b in archive.pairs():
        for text_of_a, text_of_b in zip(archive.texts[a][language], archive.texts[b][language], strict=True):
            yield a, b, text_of_a, text_of_b, TYPED[language].format(a=text_of_a, b=text_of_b)


def generated(model: AtriModel, processor: AtriProcessor, tune: bool) -> Archive:
    """Held-out combinations and single sounds, or, to tune, training combinations that are rendered anew."""
    if tune:
        training = [combination for combination in all_combinations() if not is_heldout(combination)]
        picked = np.random.default_rng(0).choice(len(training), NUM_TUNE, replace=False)
        scenes = [make_scene(training[place], index=FIRST_TUNE + place) for place in picked.tolist()]
        sources = [frozenset(training[place].sources) for place in picked.tolist()]
    else:
        heldout, single = make_soundscapes(355, split="heldout"), make_soundscapes(72, split="single")
        scenes = [*heldout, *single]
        sources = [frozenset(item.sources) for part in (heldout, single) for item in part.combinations]
    texts = {source: bare_captions(source) for source in SOURCES}
    return Archive(encode_audio(model, processor, scenes), sources, texts)


def recorded(model: AtriModel, processor: AtriProcessor, data: Path) -> Archive:
    """The scenes of `dev/`, whose recordings are not in training; a question is the name of a class."""
    rows = read_scenes(data / "dev" / "metadata.jsonl")
    sounds = encode_audio(model, processor, [data / "dev" / row["file_name"] for row in rows])
    classes = json.loads((data / "captions.json").read_text(encoding="utf-8"))["classes"]
    texts = {
        name: {code: [forms["clause"], forms["nominal"]] for code, forms in by_language.items()}
        for name, by_language in classes.items()
    }
    return Archive(sounds, [frozenset(source["label"] for source in row["sources"]) for row in rows], texts)


def main() -> None:
    """Run the command."""
    parser = option_parser(__doc__, "about a CPU minute for each model")
    parser.add_argument("--models", nargs="+", type=Path, default=[], help="folders that `atri quickstart` wrote")
    parser.add_argument("--real-models", nargs="+", type=Path, default=[], help="models trained on train/ of --data")
    parser.add_argument("--data", type=Path, help="folder with dev/ and captions.json")
    parser.add_argument("--tune", action="store_true", help="compare all weights, without held-out combinations")
    args = parser.parse_args()
    if args.real_models:
        check_scenes(parser, args.data)
    runs = [run(folder, lambda *model: generated(*model, args.tune), args.tune) for folder in args.models]
    if args.tune:
        print("\n\n".join(table([one], list(one["figures"][ATRI_LANGUAGES[0]])) for one in runs))
        return
    real = [run(folder, lambda *model: recorded(*model, args.data), args.tune) for folder in args.real_models]
    results = {"version": __version__, "cpu": cpu_model(), "generated": runs, "recorded": real}
    RESULTS.write_text(f"{json.dumps(results, indent=1)}\n", encoding="utf-8")
    text = report(results)
    TABLES.write_text(text, encoding="utf-8")
    print(text)


def run(folder: Path, make_archive: Callable[[AtriModel, AtriProcessor], Archive], tune: bool) -> dict[str, Any]:
    """The figures of a model on an archive, with how the model was trained."""
    model, processor = AtriModel.from_pretrained(folder), AtriProcessor.from_pretrained(folder)
    archive = make_archive(model.eval(), processor)
    ways = {name: way for name, way in all_ways().items() if tune or name in REPORTED}
    training = json.loads((folder / "atri_results.json").read_text(encoding="utf-8"))["training"]
    return {
        "training": {name: training[name] for name in ("objective", "steps", "batch_size", "seed")},
        "scenes": len(archive.sounds),
        "pairs": len(archive.pairs()),
        "questions": len(list(questions(archive, ATRI_LANGUAGES[0]))),
        "figures": {language: judge(archive, model, processor, ways, language) for language in ATRI_LANGUAGES},
    }


def report(results: dict[str, Any]) -> str:
    """The tables of all archives in Markdown."""
    parts = [
        "# A without B",
        "Made by `benchmarks/without.py`, in percent of the questions, mean of eight languages and of the models.",
        "\n".join(f"- *{COLUMNS[name]}*: {meaning}." for name, meaning in FIGURES.items()),
    ]
    for title, runs in (("Generated sounds", results["generated"]), ("Recordings", results["recorded"])):
        if not runs:
            continue
        trained = "; ".join(
            f"seed {one['training']['seed']} with {one['training']['steps']} steps of {one['training']['batch_size']}"
            for one in runs
        )
        parts += [
            f"## {title}",
            "{scenes} scenes, {pairs} pairs of sounds, {questions} questions in each language. ".format(**runs[0])
            + f"Models ({runs[0]['training']['objective']}): {trained}.",
            table(runs, list(REPORTED)),
            "First right by language, without and with what is absent:",
            table_by_language(runs),
        ]
    return "\n\n".join(parts) + "\n"


def table(runs: Sequence[Mapping[str, Any]], ways: Sequence[str]) -> str:
    """One row for each way: the mean over the models and languages."""
    rows = []
    for way in ways:
        figures = [of_language[way] for one in runs for of_language in one["figures"].values()]
        rows.append(
            [REPORTED.get(way, way), *(f"{100 * np.mean([item[name] for item in figures]):.1f}" for name in FIGURES)]
        )
    return text_table(["way", *COLUMNS.values()], rows, markdown=True)


def table_by_language(runs: Sequence[Mapping[str, Any]]) -> str:
    """One row for each of the ways plain and chosen, one column for each language."""
    rows = []
    for way in ("plain", CHOSEN):
        means = [
            100 * np.mean([one["figures"][language][way]["right"] for one in runs]) for language in ATRI_LANGUAGES
        ]
        rows.append([REPORTED[way], *(f"{mean:.1f}" for mean in means)])
    return text_table(["way", *map(iso_code, ATRI_LANGUAGES)], rows, markdown=True)


if __name__ == "__main__":
    main()
