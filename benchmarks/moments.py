"""Moments in long recordings: how long windows should be, how often they should begin, and how they become moments.

The recordings are 60 to 300 s long and made of the ESC-10 scenes (`README.md`), with noise between them. There are two
kinds of queries, in eight languages: captions of a scene, whose relevant window is the scene, and captions of one
sound, whose relevant windows are all of its occurrences. The model in `--model` must not have heard the scenes of
`dev/`. `--tune` makes recordings from `train/` instead, to choose the settings; `dev/` was evaluated once.

    python benchmarks/moments.py --data esc10 --model runs/model --work runs/moments --tune
    python benchmarks/moments.py --data esc10 --model runs/model --work runs/moments
"""

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from moments_study.esc10_scenes import esc10_source
from moments_study.rules import FLOORS, RULES, TUNED, Rule
from shared.scenes import check_scenes

from modeling_atri import AtriModel, AtriProcessor, encode_text
from modeling_atri.corpora.soundscapes.long_recordings import MOMENTS_FILE, write_long_recordings
from modeling_atri.files import write_json
from modeling_atri.hub_cards.environment import describe_environment
from modeling_atri.hub_cards.figures import MOMENT_FIGURES
from modeling_atri.hub_cards.tables import moments_table, text_table
from modeling_atri.search.moments import MomentQuery, folder_recordings, moment_metrics, read_moment_queries


WINDOWS_S = (10.12, 4.0, 2.0)
HOPS = (1 / 8, 1 / 4, 1 / 2, 1)  # shares of a window
BEST = (4.0, 1 / 2)  # the setting of the tables of languages and rules
NUM_RECORDINGS = 24
SEEDS = {"train": 0, "dev": 1}
KINDS = ("scene", "sound")
RESULTS = Path(__file__).parent / "results"

Windows = dict[str, tuple[np.ndarray, np.ndarray]]  # spans and vectors of each recording


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the ESC-10 scenes")
    parser.add_argument("--model", required=True, help="folder of a model that was trained on train/")
    parser.add_argument("--work", type=Path, required=True, help="folder for recordings and vectors, which are reused")
    parser.add_argument("--tune", action="store_true", help="recordings of train/, and the shares of the merging rule")
    args = parser.parse_args()
    check_scenes(parser, args.data)
    split = "train" if args.tune else "dev"
    folder = args.work / split
    if not (folder / MOMENTS_FILE).exists():
        write_long_recordings(folder, esc10_source(args.data, split), NUM_RECORDINGS, SEEDS[split])
    queries = read_moment_queries(folder / MOMENTS_FILE)
    kinds = [json.loads(line)["group_id"].split()[0] for line in (folder / MOMENTS_FILE).read_text().splitlines()]
    model, processor = AtriModel.from_pretrained(args.model).eval(), AtriProcessor.from_pretrained(args.model)
    texts = encode_text(model, processor, [(query.text, query.language) for query in queries])

    rules: dict[str, Rule] = {f"{share:g}": rule for share, rule in TUNED.items()} if args.tune else dict(RULES)
    rows: list[dict[str, Any]] = []
    for window_s in WINDOWS_S:
        finest, seconds = encoded(model, processor, folder, queries, window_s, args.work)
        for hop in HOPS[1:3] if args.tune else HOPS:
            windows = {vid: thinned(*found, hop) for vid, found in finest.items()}
            per_hour = 3600 * sum(len(spans) for spans, _ in windows.values()) / total_s(windows)
            for name, rule in (rules | dict(FLOORS) if (window_s, hop) == BEST and not args.tune else rules).items():
                for kind in KINDS:
                    members = [number for number, found in enumerate(kinds) if found == kind]
                    figures = evaluate(queries, texts, windows, rule, members)
                    row = {"window_s": window_s, "hop": hop, "rule": name, "queries": kind}
                    rows.append(row | {"windows_per_hour": round(per_hour), "metrics": figures})
                    print(json.dumps({**row, **{name: round(figures[f"mean_{name}"], 4) for name in MOMENT_FIGURES}}))
        print(f"encoding windows of {window_s} s every {window_s / 8:.3f} s: {seconds or 0} s", flush=True)
    if args.tune:
        return
    languages = list(dict.fromkeys(query.language for query in queries))
    facts = {
        "split": split,
        "num_recordings": NUM_RECORDINGS,
        "minutes": round(total_s(windows) / 60, 1),
        "num_queries_per_language": {kind: kinds.count(kind) // len(languages) for kind in KINDS},
        "model": Path(args.model).name,
        "environment": describe_environment("cpu"),
    }
    write_json(RESULTS / "moments.json", {**facts, "rows": rows})
    (RESULTS / "moments.md").write_text(report(rows, languages), encoding="utf-8")


def encoded(
    model: AtriModel,
    processor: AtriProcessor,
    folder: Path,
    queries: Sequence[MomentQuery],
    window_s: float,
    work: Path,
) -> tuple[Windows, float | None]:
    """The windows of all recordings, one every eighth of a window, and the seconds that took; None if it was done."""
    weights = hashlib.blake2b(digest_size=6)
    for parameter in model.audio_projection.parameters():
        weights.update(parameter.detach().numpy().tobytes())
    path = work / f"{folder.name}_{weights.hexdigest()}_{window_s:g}.npz"
    began = time.perf_counter()
    took = None
    if not path.exists():
        vids = [query.vid for query in queries]
        source = folder_recordings(model, processor, folder, vids, window_s, window_s / 8, progress=True)
        found = {}
        for recording in source.recordings:
            found[f"{recording.vid} spans"] = np.asarray(recording.spans)
            found[f"{recording.vid} vectors"] = recording.vectors
        np.savez(path, **found)
        took = round(time.perf_counter() - began, 1)
    with np.load(path) as stored:
        vids = dict.fromkeys(name.rpartition(" ")[0] for name in stored.files)
        return {vid: (stored[f"{vid} spans"], stored[f"{vid} vectors"]) for vid in vids}, took


def thinned(spans: np.ndarray, vectors: np.ndarray, hop: float) -> tuple[np.ndarray, np.ndarray]:
    """The windows that a longer hop has: every n-th, and one that ends with the recording."""
    step = round(8 * hop)
    kept = [*range(0, len(spans) - 1, step), len(spans) - 1]
    return spans[kept], vectors[kept]


def total_s(windows: Windows) -> float:
    return float(sum(spans[-1, 1] for spans, _ in windows.values()))


def evaluate(
    queries: Sequence[MomentQuery], texts: np.ndarray, windows: Windows, rule: Rule, members: Sequence[int]
) -> dict[str, float]:
    """The figures of each language and their mean, over the queries with these numbers."""
    rng = np.random.default_rng(0)
    found: dict[str, tuple[list[Any], list[Any]]] = {}
    for number in members:
        query = queries[number]
        spans, vectors = windows[query.vid]
        predictions, relevant = found.setdefault(query.language, ([], []))
        predictions.append(rule(spans, vectors @ texts[number], rng))
        relevant.append(query.windows)
    figures = {language: moment_metrics(*lists) for language, lists in found.items()}
    figures["mean"] = {name: float(np.mean([values[name] for values in figures.values()])) for name in MOMENT_FIGURES}
    return {f"{language}_{name}": value for language, values in figures.items() for name, value in values.items()}


def report(rows: Sequence[dict[str, Any]], languages: Sequence[str]) -> str:
    """The tables: settings, rules and floors, languages."""

    def cells(row: dict[str, Any]) -> list[str]:
        return [f"{100 * row['metrics'][f'mean_{name}']:.1f}" for name in ("R1@0.5", "R1@0.7", "mAP")]

    def both(window_s: float, hop: float, rule: str) -> list[str]:
        return [
            cell
            for kind in KINDS
            for row in rows
            if (row["window_s"], row["hop"], row["rule"], row["queries"]) == (window_s, hop, rule, kind)
            for cell in cells(row)
        ]

    titles = [f"{figure}, {kind}s" for kind in KINDS for figure in ("R1@0.5", "R1@0.7", "mAP")]
    per_hour = {(row["window_s"], row["hop"]): row["windows_per_hour"] for row in rows}
    settings = [
        [f"{window_s:g} s", f"1/{round(1 / hop)}", per_hour[window_s, hop], *both(window_s, hop, "parts")]
        for window_s in WINDOWS_S
        for hop in HOPS
    ]
    rules = [[name, *both(*BEST, name)] for name in (*RULES, *FLOORS)]
    best = {
        row["queries"]: row["metrics"]
        for row in rows
        if (row["window_s"], row["hop"]) == BEST and row["rule"] == "parts"
    }
    sections = [
        text_table(["window", "hop", "windows an hour", *titles], settings, align="<<" + ">" * 7, markdown=True),
        f"Rules, with windows of {BEST[0]:g} s that begin every {BEST[0] * BEST[1]:g} s:",
        text_table(["rule", *titles], rules, markdown=True),
        *(
            f"{kind.capitalize()}s by language, with these windows:\n\n{moments_table(best[kind], languages, True)}"
            for kind in KINDS
        ),
    ]
    return "\n\n".join(sections) + "\n"


if __name__ == "__main__":
    main()
