"""Print the paper's table beside your figures: `python examples/reproduce_atri/table.py results/audiocaps`.

The folder has the files that `atri evaluate --output` wrote: mlclap.json, cacl.json, kcl.json and akcl.json.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from modeling_atri.hub_cards import text_table


# Title, key of the results, and the factor to multiply them with.
COLUMNS = (
    ("T2A R@1, mean", "mean_text_to_audio_R@1", 100),
    ("A2T R@1, mean", "mean_audio_to_text_R@1", 100),
    ("English T2A R@1", "eng_Latn_text_to_audio_R@1", 100),
    ("R@5", "eng_Latn_text_to_audio_R@5", 100),
    ("mAP@10", "eng_Latn_text_to_audio_mAP@10", 100),
    ("MRV", "mrv", 1),
    ("gap", "embedding_gap", 1),
    ("distance", "embedding_distance", 1),
)
# ATRI (ACL 2025, arXiv 2502.14627) on AudioCaps, as published summaries of the paper report it; recall in percent.
PAPER = {
    "mlclap": (44.84, 61.19, 47.31, 80.65, 61.44, 10.38, 0.189, 0.330),
    "cacl": (46.03, 62.28, 49.05, 82.14, 63.07, 8.71, 0.161, 0.312),
    "kcl": (46.81, 62.91, 49.68, 82.44, 63.34, 7.52, 0.141, 0.288),
}
NAMES = {"mlclap": "ML-CLAP", "cacl": "CACL", "kcl": "KCL", "akcl": "AKCL (not in the paper)"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder with a JSON file for each objective")
    parser.add_argument(
        "--without_paper",
        action="store_true",
        help="leave out the paper's figures, for other test sets than AudioCaps",
    )
    options = parser.parse_args()
    rows, notes = [], []
    for objective, name in NAMES.items():
        if objective in PAPER and not options.without_paper:
            rows.append([name, "paper", *cells(PAPER[objective])])
        path = options.results / f"{objective}.json"
        if path.exists():
            results = json.loads(path.read_text(encoding="utf-8"))
            rows.append([name, "ours", *cells([unit * results["metrics"][key] for _, key, unit in COLUMNS])])
            notes.append(f"{name}: {how(results)}")
    if not notes:
        parser.error(f"there is none of {', '.join(f'{objective}.json' for objective in NAMES)} in {options.results}")
    header = ["objective", "", *(title for title, _, _ in COLUMNS)]
    print(text_table(header, rows, align="<<" + ">" * len(COLUMNS), markdown=True))
    print("\nOurs:", *notes, sep="\n- ")
    if not options.without_paper:
        print("\nThe paper's figures are from published summaries. Its copy of AudioCaps and its translations differ.")


def cells(values: Sequence[float]) -> list[str]:
    """Format percentages and variances with two decimals, distances with three."""
    return [
        f"{value:.3f}" if key.startswith("embedding") else f"{value:.2f}"
        for value, (_, key, _) in zip(values, COLUMNS, strict=True)
    ]


def how(results: dict) -> str:
    """The data that the figures were measured on, and the device and version."""
    on, environment = results["evaluated_on"], results["environment"]
    return (
        f"{on['num_clips']} clips of {results['data']['eval']}, {on['num_captions_per_language']} captions in each of "
        f"{len(on['languages'])} languages; {environment['device']['name']}, modeling_atri "
        f"{environment['versions'].get('modeling_atri', 'not installed')}, {environment['date'][:10]}"
    )


if __name__ == "__main__":
    main()
