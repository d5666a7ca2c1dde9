"""Make the page of claims from the results of the studies: a table with intervals and verdicts, and plots.

    python benchmarks/claims.py

The claims are in `claims.yaml`. Each compares two cells of a study: of `results/consistency.parquet`, which
`consistency.py` makes, or of `results/evidence/<study>.parquet`, which `evidence.py` makes. The difference is paired
by seed and clip, with a 95 % bootstrap interval over seeds and clips. p-values are corrected for all claims of the
page together (Holm). The verdict is made from them: a claim *holds*, *the reverse holds*, or the two are *not told
apart*.
Nothing is trained, so the command takes some seconds. It writes `results/claims.md` and `results/claims_*.png`.
"""

from pathlib import Path

from claims_page.claims import RESULTS, read_claims, read_studies, table
from claims_page.plots import draw_all
from consistency_study.bootstrap import Bootstrap
from shared.options import option_parser


NUM_CLIPS = 190  # dev of the ESC-10 scenes


def main() -> None:
    """Run the command."""
    option_parser(__doc__, "some seconds").parse_args()
    studies = read_studies()
    text = table(read_claims(), studies, Bootstrap(NUM_CLIPS))
    Path(RESULTS / "claims.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    draw_all(studies, RESULTS)


if __name__ == "__main__":
    main()
