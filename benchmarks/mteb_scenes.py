"""Evaluate models with mteb on `dev/` of the ESC-10 scenes: text to audio and audio to text in eight languages.

Two floors are evaluated too: random vectors, and the first model with random weights.

    python benchmarks/mteb_scenes.py --data $ATRI_SCENES --models runs/teaching/scratch-teach-akcl-0
    PYTHONPATH=runs/teaching/use python benchmarks/mteb_scenes.py ...   # with models that have the text encoder there
    python benchmarks/mteb_scenes.py --report     # only make the tables from the results

mteb's own results, a file for each task and model, are kept in `--work`. What is there is not evaluated again.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import torch
from mteb.models import ModelMeta
from shared.measuring import cpu_model
from shared.options import option_parser
from shared.scenes import check_scenes
from teaching_study import use_text  # noqa: F401, whose text tower some of the models have

from modeling_atri import AtriConfig, AtriModel, AtriProcessor
from modeling_atri.hub_cards.environment import describe_environment
from modeling_atri.hub_cards.figures import CONSISTENCY_TITLES
from modeling_atri.hub_cards.tables import text_table
from modeling_atri.languages_atri import language_name
from modeling_atri.mteb import AtriMtebEncoder, retrieval_tasks


RESULTS = Path(__file__).parent / "results" / "mteb.json"
TABLES = RESULTS.with_suffix(".md")
NAME = "Esc10Scenes"
# What mteb requires of a task. The clips of ESC-50 were recorded before they were collected in 2015.
METADATA = {
    "reference": "https://github.com/karoldvl/ESC-10",
    "date": ("2005-01-01", "2015-06-01"),
    "license": "cc-by-3.0",
    "annotations_creators": "algorithmic",
    "dialect": [],
    "sample_creation": "created",
    "bibtex_citation": r"""
@inproceedings{piczak2015esc,
  author = {Piczak, Karol J.},
  booktitle = {Proceedings of the 23rd ACM International Conference on Multimedia},
  pages = {1015--1018},
  title = {{ESC}: Dataset for Environmental Sound Classification},
  year = {2015},
}
""",
}
DIMENSIONS = 128
# mteb's figures and their titles in the table. The figures of consistency are the same in both directions.
FIGURES = {"hit_rate_at_1": "R@1", "hit_rate_at_5": "R@5", "hit_rate_at_10": "R@10", "ndcg_at_10": "nDCG@10"}


class RandomVectors:
    """An encoder that gives every caption and every clip a random vector, the same for the same text or name."""

    mteb_model_meta = ModelMeta.create_empty(
        {"name": "local/random-vectors", "revision": "1", "modalities": ["audio", "text"]}
    )

    def encode(self, inputs: Any, **_: Any) -> np.ndarray:
        """Vectors `(n, 128)`, from a normal distribution."""
        data = inputs.dataset
        items = data["text"] if "text" in data.column_names else data["id"]
        return np.stack([np.random.default_rng(zlib.crc32(item.encode())).normal(size=DIMENSIONS) for item in items])

    def similarity(self, first: Any, second: Any) -> torch.Tensor:
        """Cosines `(n, m)`."""
        first, second = (torch.nn.functional.normalize(torch.as_tensor(one), dim=-1) for one in (first, second))
        return first @ second.T

    def similarity_pairwise(self, first: Any, second: Any) -> torch.Tensor:
        """Cosines `(n,)` of rows with the same rows."""
        return torch.cosine_similarity(torch.as_tensor(first), torch.as_tensor(second))


def main() -> None:
    """Run the command."""
    parser = option_parser(__doc__, "about a minute for a model of 1.2 M parameters")
    parser.add_argument("--data", type=Path, help="folder with train/ and dev/")
    parser.add_argument("--models", type=Path, nargs="+", default=[], help="folders of models")
    parser.add_argument("--work", type=Path, default=Path("runs/mteb"), help="folder for mteb's own results")
    parser.add_argument("--report", action="store_true", help="only make the tables")
    args = parser.parse_args()
    if not args.report:
        check_scenes(parser, args.data)
        if not args.models:
            parser.error("--models must name at least one folder of a model")
        results = evaluate(args.data / "dev", args.models, mteb.ResultCache(args.work))
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    TABLES.write_text(tables(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
    print(TABLES.read_text(encoding="utf-8"))


def evaluate(dev: Path, models: list[Path], cache: mteb.ResultCache) -> dict[str, Any]:
    """Scores of each model, by direction and language, and how they were made."""
    tasks = retrieval_tasks(dev, NAME, **METADATA)
    encoders: dict[str, Any] = {"random vectors": RandomVectors(), "random weights": untrained(models[0])}
    encoders |= {folder.name: AtriMtebEncoder.from_pretrained(folder, device="cpu") for folder in models}
    scores = {name: scores_of(encoder, tasks, cache) for name, encoder in encoders.items()}
    environment = describe_environment(torch.device("cpu"))
    environment["versions"]["mteb"] = mteb.__version__
    return {
        "tasks": [task.metadata.name for task in tasks],
        "num_clips": len(tasks[0].rows),
        "scores": scores,
        "cpu": cpu_model(),
        "environment": environment,
    }


def untrained(folder: Path) -> AtriMtebEncoder:
    """A model like the one in the folder, with random weights."""
    torch.manual_seed(0)
    config = AtriConfig.from_pretrained(folder)
    config.name_or_path = "random-weights"
    return AtriMtebEncoder(AtriModel(config).eval(), AtriProcessor.from_pretrained(folder))


def scores_of(encoder: Any, tasks: list[Any], cache: mteb.ResultCache) -> dict[str, dict[str, dict[str, float]]]:
    """The figures of the tables, by direction and language."""
    results = mteb.evaluate(encoder, tasks, cache=cache, co2_tracker=False, show_progress_bar=False)
    wanted = [*FIGURES, *CONSISTENCY_TITLES]
    return {
        result.task_name.removeprefix(NAME)[:3]: {
            scores["hf_subset"]: {name: scores[name] for name in wanted} for scores in result.scores["test"]
        }
        for result in results
    }


def tables(results: dict[str, Any]) -> str:
    """Markdown: means over the languages, and R@1 by language."""
    directions = list(next(iter(results["scores"].values())))
    languages = list(next(iter(results["scores"].values()))[directions[0]])
    header = [
        "model",
        *(f"{way} {title}" for way in directions for title in FIGURES.values()),
        "MRV",
        "gap",
        "distance",
    ]
    rows = []
    by_language = []
    for model, scores in results["scores"].items():
        means = [np.mean([scores[way][code][name] for code in languages]) for way in directions for name in FIGURES]
        shared = scores[directions[0]][languages[0]]
        rows.append(
            [
                model,
                *(f"{100 * mean:.1f}" for mean in means),
                f"{shared['mrv']:.1f}",
                f"{shared['embedding_gap']:.3f}",
                f"{shared['embedding_distance']:.3f}",
            ]
        )
        by_language.append([model, *(f"{100 * scores['T2A'][code]['hit_rate_at_1']:.1f}" for code in languages)])
    versions = results["environment"]["versions"]
    made_by = (
        f"{results['num_clips']} clips with five captions each in {len(languages)} languages. Means over the "
        f"languages, fractions in percent; mteb {versions['mteb']}, torch {versions['torch']}, {results['cpu']}:"
    )
    first = text_table(header, rows, markdown=True)
    second = text_table(["model", *(language_name(code) for code in languages)], by_language, markdown=True)
    return f"{made_by}\n\n{first}\n\nText-to-audio R@1 by language:\n\n{second}\n"


if __name__ == "__main__":
    main()
