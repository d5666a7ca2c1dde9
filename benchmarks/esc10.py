"""ATRI's objectives on real recordings: train each from scratch on the ESC-10 scenes, evaluate on unheard clips.

The same model, data, steps and seed for every objective; only the objective differs. One process an objective, so that
its CPU time and peak memory are its own. Finished objectives are skipped when the command is repeated.

    python benchmarks/esc10.py --data $ATRI_SCENES                        # all four, on dev
    python benchmarks/esc10.py --data $ATRI_SCENES --tune --objectives akcl   # choose settings without touching dev
    python benchmarks/esc10.py --report                                   # table and plot from the results in the repo

The folder holds train/ and dev/, each with sound files beside a metadata.jsonl; benchmarks/README.md says how the
scenes are made. Settings are in esc10.yaml; options after `--` go before them, e.g. `-- --max_steps 100`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.encode import encode_audio, encode_text
from modeling_atri.hub_cards.cards import results_table
from modeling_atri.languages_atri import language_name


HERE = Path(__file__).parent
RESULTS = HERE / "results" / "esc10.json"
TABLES = HERE / "results" / "esc10.md"
PLOT = HERE / "results" / "esc10.png"
SETTINGS = HERE / "esc10.yaml"
OBJECTIVES = ("mlclap", "cacl", "kcl", "akcl")
HELD_OUT_FOLD = "3"  # of train: --tune validates on scenes that hold clips of this fold alone


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with train/ and dev/")
    parser.add_argument("--objectives", nargs="+", default=OBJECTIVES, choices=OBJECTIVES)
    parser.add_argument("--work", type=Path, default=Path("runs/esc10"), help="folder for models and cached features")
    parser.add_argument("--tune", action="store_true", help="hold out a fold of train instead of evaluating on dev")
    parser.add_argument("--report", action="store_true", help="only print the table and draw the plot")
    own, more = _split_options(sys.argv[1:])
    args = parser.parse_args(own)
    if args.report:
        report(json.loads(RESULTS.read_text(encoding="utf-8")))
        return
    if args.data is None or not (args.data / "train" / "metadata.jsonl").is_file():
        parser.error(f"--data must name a folder with train/metadata.jsonl and dev/metadata.jsonl; got {args.data}")
    train, evaluated = (args.data / "train", args.data / "dev")
    if args.tune:
        train, evaluated = hold_out_fold(train, args.work / "tune")
    runs = {
        objective: run(objective, train, evaluated, args.work / ("tune" if args.tune else "dev"), more)
        for objective in args.objectives
    }
    if not args.tune and not more and set(runs) == set(OBJECTIVES):
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(runs, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        report(runs)
    else:
        print(summary(runs))


def _split_options(argv: list[str]) -> tuple[list[str], list[str]]:
    cut = argv.index("--") if "--" in argv else len(argv)
    return argv[:cut], argv[cut + 1 :]


def run(objective: str, train: Path, evaluated: Path, work: Path, more: list[str]) -> dict:
    """Train and evaluate one objective in a process of its own; its results with time and memory."""
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
        start = time.monotonic()
        process = subprocess.Popen(command)
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            sys.exit(f"{objective}: training failed with status {os.waitstatus_to_exitcode(status)}")
        measured = {
            "made_by": made_by,
            "wall_minutes": (time.monotonic() - start) / 60,
            "cpu_minutes": (usage.ru_utime + usage.ru_stime) / 60,
            "peak_memory_mb": usage.ru_maxrss / 1024,
        }
        measured_file.write_text(json.dumps(measured))
    measured = json.loads(measured_file.read_text())
    del measured["made_by"]  # names folders of this machine
    results = json.loads(results_file.read_text(encoding="utf-8"))
    return results | {"measured": measured, "best_hit": judge_best_hits(output, evaluated)}


def judge_best_hits(model_folder: Path, evaluated: Path) -> dict[str, float]:
    """What is right about the scene that ranks first for a caption: share of captions, over all languages.

    Says where R@1 is lost: `first` and `second` source, their `relation`, and all three together.
    """
    model, processor = AtriModel.from_pretrained(model_folder), AtriProcessor.from_pretrained(model_folder)
    metadata = evaluated / "metadata.jsonl" if evaluated.is_dir() else evaluated
    rows = [json.loads(line) for line in metadata.read_text(encoding="utf-8").splitlines()]
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


def hold_out_fold(train: Path, folder: Path) -> tuple[Path, Path]:
    """Split the training scenes by the fold of their clips, into two files of rows.

    Scenes without a clip of the held-out fold train; scenes with clips of it alone validate, one a triple, so that
    exactly one scene fits a caption.
    """
    rows = [json.loads(line) for line in (train / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    parts: dict[str, list[dict]] = {"train": [], "validation": []}
    seen = set()
    for row in rows:
        row["file_name"] = str((train / row["file_name"]).resolve())
        folds = {source["clip"][0] for source in row["sources"]}
        if HELD_OUT_FOLD not in folds:
            parts["train"].append(row)
        elif folds == {HELD_OUT_FOLD} and str(row["triple"]) not in seen:
            seen.add(str(row["triple"]))
            parts["validation"].append(row)
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in part)
        (folder / f"{name}.jsonl").write_text(lines + "\n", encoding="utf-8")
    return folder / "train.jsonl", folder / "validation.jsonl"


def summary(runs: dict[str, dict]) -> str:
    """One row an objective."""
    header = [
        "objective",
        "T2A R@1",
        "R@10",
        "mAP@10",
        "A2T R@1",
        "R@10",
        "MRV",
        "gap",
        "distance",
        "CPU min",
        "peak MB",
    ]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for objective, results in runs.items():
        metrics, measured = results["metrics"], results["measured"]
        names = (
            "text_to_audio_R@1",
            "text_to_audio_R@10",
            "text_to_audio_mAP@10",
            "audio_to_text_R@1",
            "audio_to_text_R@10",
        )
        cells = [f"{100 * metrics[f'mean_{name}']:.1f}" for name in names]
        cells += [f"{metrics['mrv']:.1f}", f"{metrics['embedding_gap']:.3f}", f"{metrics['embedding_distance']:.3f}"]
        cells += [f"{measured['cpu_minutes']:.0f}", f"{measured['peak_memory_mb']:.0f}"]
        lines.append("| " + " | ".join([objective, *cells]) + " |")
    return "\n".join(lines)


def best_hits(runs: dict[str, dict]) -> str:
    """One row an objective: what is right about the scene that ranks first."""
    lines = ["| objective | first source | second source | relation | all three |", "|---|---|---|---|---|"]
    for objective, results in runs.items():
        shares = [f"{100 * results['best_hit'][name]:.0f}" for name in ("first", "second", "relation", "all")]
        lines.append("| " + " | ".join([objective, *shares]) + " |")
    return "\n".join(lines)


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
    """Recall by language and mean rank variance, one colour an objective."""
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
