"""Figures of an evaluation as a table: one row a language, in percent."""

from modeling_atri.languages_atri import language_name


COLUMNS = (
    ("T2A R@1", "text_to_audio_R@1"),
    ("R@5", "text_to_audio_R@5"),
    ("R@10", "text_to_audio_R@10"),
    ("mAP@10", "text_to_audio_mAP@10"),
    ("A2T R@1", "audio_to_text_R@1"),
    ("R@5", "audio_to_text_R@5"),
    ("R@10", "audio_to_text_R@10"),
    ("mAP@10", "audio_to_text_mAP@10"),
)
CONSISTENCY = (
    ("mean rank variance", "mrv"),
    ("mean rank std", "mean_rank_std"),
    ("embedding gap", "embedding_gap"),
    ("embedding distance", "embedding_distance"),
)


def results_table(metrics: dict[str, float], languages: list[str], markdown: bool = False) -> str:
    """One row a language and one for their mean, in percent, with the consistency figures below.

    Args:
        metrics: keys `{language}_{metric}`, `mean_{metric}`, `mrv`, ...
        languages: FLORES-200 codes, in the order of the rows.
        markdown (`bool`, *optional*, defaults to `False`): Markdown instead of aligned plain text.
    """
    header = ["language", *(title for title, _ in COLUMNS)]
    rows = [
        [label, *(f"{100 * metrics[f'{key}_{name}']:.1f}" for _, name in COLUMNS)]
        for key, label in [*((code, language_name(code)) for code in languages), ("mean", "mean")]
    ]
    lines = _markdown_lines(header, rows) if markdown else _aligned_lines(header, rows)
    figures = [f"{title} {metrics[name]:.3f}" for title, name in CONSISTENCY if name in metrics]
    if figures:
        lines += ["", "Consistency between languages: " + ", ".join(figures) + "."]
    return "\n".join(lines)


def _aligned_lines(header: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: list[str]) -> str:
        first, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        return "  ".join([cells[0].ljust(len(first)), *others])

    rule = "-" * len(line(header))
    return [line(header), rule, *(line(row) for row in rows[:-1]), rule, line(rows[-1])]


def _markdown_lines(header: list[str], rows: list[list[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in [header, rule, *rows]]
