"""Train each objective from scratch on the ESC-10 scenes, and evaluate it on clips that it has not heard.

Model, data, steps and seed are the same for all objectives. Each objective trains in a process of its own, whose CPU
time and peak memory are measured. Objectives that are done are skipped when the command is repeated.

    python benchmarks/esc10.py --data $ATRI_SCENES                            # all four, evaluated on dev
    python benchmarks/esc10.py --data $ATRI_SCENES --tune --objectives akcl   # choose settings without using dev
    python benchmarks/esc10.py --report                                       # tables and plot from the results

`benchmarks/README.md` describes the folder of scenes. The settings are in `esc10.yaml`; options of `atri train` that
follow `--` override them, e.g. `-- --max_steps 100`.
"""

import json
import sys
from pathlib import Path

import numpy as np
from shared.objectives import TITLES
from shared.options import option_parser
from shared.processes import run_measured
from shared.scenes import check_scenes, hold_out_fold, read_scenes

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.encode import encode_audio, encode_text
from modeling_atri.hub_cards.tables import results_table, text_table
from modeling_atri.languages_atri import language_name


HERE = Path(__file__).parent
RESULTS = HERE / "results" / "esc10.json"
TABLES = HERE / "results" / "esc10.md"
PLOT = HERE / "results" / "esc10.png"
SETTINGS = HERE / "esc10.yaml"


def main() -> None:
    """Run the command."""
    parser = option_parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder with train/ and dev/")
    parser.add_argument("--objectives", nargs="+", default=list(TITLES), choices=list(TITLES))
    parser.add_argument("--work", type=Path, default=Path("runs/esc10"), help="folder for models and cached features")
    parser.add_argument("--tune", action="store_true", help="hold out a fold of train instead of evaluating on dev")
    parser.add_argument("--report", action="store_true", help="only make the tables and the plot")
    own, more = _split_options(sys.argv[1:])
    args = parser.parse_args(own)
    if args.report:
        report(json.loads(RESULTS.read_text(encoding="utf-8")))
        return
    check_scenes(parser, args.data)
    train, evaluated = args.data / "train", args.data / "dev"
    if args.tune:
        train, evaluated = hold_out_fold(train, args.work / "tune")
    runs = {
        objective: run(objective, train, evaluated, args.work / ("tune" if args.tune else "dev"), more)
        for objective in args.objectives
    }
    if not args.tune and not more and set(runs) == set(TITLES):
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(runs, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        report(runs)
    else:
        print(summary(runs))


def _split_options(argv: list[str]) -> tuple[list[str], list[str]]:
    cut = argv.index("--") if "--" in argv else len(argv)
    return argv[:cut], argv[cut + 1 :]


def run(objective: str, train: Path, evaluated: Path, work: Path, more: list[str]) -> dict:
    """Train and evaluate one objective in a process of its own, and return its results with time and memory."""
    output = work / objective
    results_file = output / "atri_results.json"
    command = [sys.executable, "-m", "modeling_atri.cli.main", "train", "--config", str(SETTINGS)]
    command += ["--objective", objective, "--train_data", str(train), "--eval_data", str(evaluated)]
    command += ["--output_dir", str(output), "--feature_cache_dir", str(work.parent / "features"), *more]
    measured_file = output / "measured.json"
    made_by = {"command": command[3:], "settings": SETTINGS.read_text(encoding="utf-8")}
    if measured_file.exists() and json.loads(measured_file.read_text())["made_by"] == made_by:
        print(f"{objective}: done before, in {output}", flush=True)
    else:
        usage = run_measured(command)
        measured = {
            "made_by": made_by,
            "wall_minutes": usage.wall_seconds / 60,
            "cpu_minutes": usage.cpu_seconds / 60,
            "peak_memory_mb": usage.peak_memory / 2**20,
        }
        measured_file.write_text(json.dumps(measured))
    measured = json.loads(measured_file.read_text())
    del measured["made_by"]  # names folders of this machine
    results = json.loads(results_file.read_text(encoding="utf-8"))
    return results | {"measured": measured, "best_hit": judge_best_hits(output, evaluated)}


def judge_best_hits(model_folder: Path, evaluated: Path) -> dict[str, float]:
    """Compare the scene that ranks first for each caption with the caption's own scene.

    Returns:
        Shares of the captions of all languages for which the `first` source, the `second` source, the `relation`, or
        `all` three are right.
    """
    model, processor = AtriModel.from_pretrained(model_folder), AtriProcessor.from_pretrained(model_folder)
    metadata = evaluated / "metadata.jsonl" if evaluated.is_dir() else evaluated
    rows = read_scenes(metadata)
    triples = np.array([(row["triple"].split("|") + [""])[:3] for row in rows])  # (scenes, 3): A, relation, B
    audio = encode_audio(model, processor, [metadata.parent / row["file_name"] for row in rows])
    right = []
    for language in rows[0]["captions"]:
        captions = [(place, caption) for place, row in enumerate(rows) for caption in row["captions"][language]]
        places, texts = zip(*captions, strict=True)
        best = (encode_text(model, processor, list(texts), language) @ audio.T).argmax(axis=1)
        right.append(triples[best] == triples[list(places)])
    first, relation, second = np.concatenate(right).mean(axis=0)
    both = np.concatenate(right).all(axis=1).mean()
    return {"first": float(first), "second": float(second), "relation": float(relation), "all": float(both)}


def summary(runs: dict[str, dict]) -> str:
    """The table of the main figures, one row for each objective."""
    header = ["objective", "T2A R@1", "R@10", "mAP@10", "A2T R@1", "R@10", "MRV", "gap", "distance"]
    in_percent = ("text_to_audio_R@1", "text_to_audio_R@10", "text_to_audio_mAP@10")
    in_percent += ("audio_to_text_R@1", "audio_to_text_R@10")
    rows = []
    for objective, results in runs.items():
        metrics, measured = results["metrics"], results["measured"]
        cells = [f"{100 * metrics[f'mean_{name}']:.1f}" for name in in_percent]
        cells += [f"{metrics['mrv']:.1f}", f"{metrics['embedding_gap']:.3f}", f"{metrics['embedding_distance']:.3f}"]
        rows.append([objective, *cells, f"{measured['cpu_minutes']:.0f}", f"{measured['peak_memory_mb']:.0f}"])
    return text_table([*header, "CPU min", "peak MB"], rows, markdown=True)


def best_hits(runs: dict[str, dict]) -> str:
    """The table of `judge_best_hits`, one row for each objective."""
    rows = [
        [objective, *(f"{100 * results['best_hit'][name]:.0f}" for name in ("first", "second", "relation", "all"))]
        for objective, results in runs.items()
    ]
    return text_table(["objective", "first source", "second source", "relation", "all three"], rows, markdown=True)


def report(runs: dict[str, dict]) -> None:
    """Write all tables and the plot, and print the tables."""
    training = next(iter(runs.values()))["training"]
    parts = [
        "# The objectives on the ESC-10 scenes",
        f"Made by `python benchmarks/esc10.py --data $ATRI_SCENES`: {training['steps']} steps of "
        f"{training['batch_size']} scenes from scratch, seed {training['seed']}, settings in `esc10.yaml`. Recall and "
        "mAP in percent.",
        summary(runs),
        "What is right about the scene that ranks first for a caption, in percent of captions over all languages:",
        best_hits(runs),
    ]
    for objective, results in runs.items():
        table = results_table(results["metrics"], results["evaluated_on"]["languages"], markdown=True)
        parts += [f"## {objective}", table]
    text = "\n\n".join(parts) + "\n"
    TABLES.write_text(text, encoding="utf-8")
    print(text)
    plot(runs)
    print(f"Tables: {TABLES}, plot: {PLOT}")


def plot(runs: dict[str, dict]) -> None:
    """Plot recall by language and mean rank variance, with one colour for each objective."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    recall, variance = figure.subplots(1, 2, width_ratios=(3, 1))
    languages = next(iter(runs.values()))["evaluated_on"]["languages"]
    width = 0.8 / len(runs)
    for number, (objective, results) in enumerate(runs.items()):
        heights = [100 * results["metrics"][f"{code}_text_to_audio_R@1"] for code in languages]
        recall.bar([place + number * width for place in range(len(languages))], heights, width, label=objective)
        variance.bar(objective, results["metrics"]["mrv"])
        variance.text(number, results["metrics"]["mrv"], f"{results['metrics']['mrv']:.1f}", ha="center", va="bottom")
    recall.set_xticks(
        [place + 0.3 for place in range(len(languages))], map(language_name, languages), rotation=30, ha="right"
    )
    recall.set(ylabel="R@1, percent", title="Text to audio on 190 scenes of unheard clips")
    recall.set_ylim(0, 1.15 * recall.get_ylim()[1])
    recall.legend(frameon=False, ncols=len(runs), loc="upper right")
    variance.set(yscale="log", title="MRV (lower is better)")
    figure.savefig(PLOT, dpi=120)


if __name__ == "__main__":
    main()
