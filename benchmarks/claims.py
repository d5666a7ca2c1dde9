"""Make the page of claims from the results of the studies: a table with intervals and verdicts, and plots.

    python benchmarks/claims.py

The claims are in `claims.yaml`. Most compare two cells of a study: of `results/consistency.parquet`, which
`consistency.py` makes, of `results/evidence/<study>.parquet`, which `evidence.py` makes, or of
`results/evidence/queries_answers.parquet`, which `ask_queries.py` makes. The difference is paired by seed and clip,
with a 95 % bootstrap interval over seeds and clips. p-values are corrected for all claims of a section together
(Holm). The verdict is made from them: a claim *holds*, *the reverse holds*, or the two are *not told apart*. Claims
whose runs have not been done are listed as such, so the command may be given again whenever there are more runs.
Nothing is trained, so it takes about a minute. It writes `results/claims.md` and `results/claims_*.png`.
"""

from pathlib import Path

from claims_page.claims import read_sections
from claims_page.figures import RESULTS, read_studies
from claims_page.plots import draw_all
from claims_page.tables import page
from query_set.tables import Bootstraps
from shared.options import option_parser


def main() -> None:
    """Run the command."""
    option_parser(__doc__, "about a minute").parse_args()
    studies = read_studies()
    text = page(read_sections(), studies, Bootstraps())
    Path(RESULTS / "claims.md").write_text(text, encoding="utf-8")
    print(text)
    draw_all(studies, RESULTS)


if __name__ == "__main__":
    main()
