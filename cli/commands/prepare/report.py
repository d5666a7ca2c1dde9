"""Print the report of a prepared folder."""

from pathlib import Path
from typing import Any


def print_report(report: dict[str, Any], folder: Path) -> None:
    """Print what is in a folder and what was left out of it."""
    from modeling_atri.corpora.clips.clip import OVERLAP
    from modeling_atri.corpora.folders.prepared import LEFT_OUT_FILE, LOST_CAPTIONS_FILE, OVERLAP_FILE, REPORT_FILE
    from modeling_atri.hub_cards.tables import text_table

    print(f"{report['corpus']}: {report['clips']} clips, {report['hours']:.2f} hours, in {folder}\n")
    print(text_table(["language", "captions"], list(report["captions"].items())))
    counts = ", ".join(f"{clips} with {count}" for count, clips in report["captions_per_clip"].items())
    print(f"\nclips by their number of captions in a language: {counts}")
    if report["of_other_length"]:
        print(f"{report['of_other_length']} clips are over 1 s longer or shorter than the corpus says.")
    for name, unit, file in (("left_out", "clips", LEFT_OUT_FILE), ("lost_captions", "captions", LOST_CAPTIONS_FILE)):
        if report[name]:
            print(f"\n{text_table(['left out', unit], list(report[name].items()))}")
            print(f"They are listed in {folder / file}.")
    if kept_out := report["left_out"].get(OVERLAP):
        print(f"\n{kept_out} clips stay out because {folder / OVERLAP_FILE} lists them: `check --drop` found them in")
        print("test data. Clips that are new here have not been compared: run `atri prepare check` again.")
    print(f"\nThis report is in {folder / REPORT_FILE}.")
