"""Text tables, the table of an evaluation's figures, and numbers with their nouns."""

from collections.abc import Collection, Mapping, Sequence

from modeling_atri.languages_atri import language_name

from .figures import CONSISTENCY_TITLES, MOMENT_FIGURES, RETRIEVAL_COLUMNS


def counted(number: int, noun: str) -> str:
    """A number with its noun, which gets an `s` in the plural: `1 clip`, `2 clips`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def text_table(
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    align: str | None = None,
    markdown: bool = False,
    rules: Collection[int] = (),
) -> str:
    """Format a table as aligned plain text or as Markdown.

    Args:
        header (sequence of `str`): Column titles.
        rows (sequence of sequences): Cells, one for each column. They are shown as `str()` gives them; format numbers
            before.
        align (`str`, *optional*): One character for each column: `"<"` for left, `">"` for right. By default the first
            column is aligned left and all others right.
        markdown (`bool`, *optional*, defaults to `False`): Return a Markdown table.
        rules (collection of `int`, *optional*): Numbers of rows that a rule of dashes is drawn above, e.g. `{0}` for a
            rule below the header. Only plain text has them.

    Returns:
        `str`: The lines of the table, without a line break at the end.

    Raises:
        ValueError: A row, or `align`, has another number of columns than `header`.

    Example:

    ```python
    >>> print(text_table(["language", "R@1"], [["English", "46.2"], ["Japanese", "9.5"]], rules={0}))
    language   R@1
    --------------
    English   46.2
    Japanese   9.5

    ```
    """
    align = align or "<" + ">" * (len(header) - 1)
    lines = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if markdown:
        lines.insert(1, ["---:" if side == ">" else "---" for side, _ in zip(align, widths, strict=True)])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    shown = [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(line, align, widths, strict=True)).rstrip()
        for line in lines
    ]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    for row in sorted(rules, reverse=True):
        shown.insert(1 + row, rule)
    return "\n".join(shown)


def results_table(metrics: Mapping[str, float], languages: Sequence[str], markdown: bool = False) -> str:
    """Format the figures of an evaluation in percent: one row for each language, and one for their mean.

    The consistency between languages, where `metrics` has it, follows below the table.

    Args:
        metrics (mapping): Figures as fractions, with keys `{language}_{figure}`, `mean_{figure}`, `mrv`, ..., as
            `retrieval_table` returns them.
        languages (sequence of `str`): FLORES-200 codes, in the order of the rows.
        markdown (`bool`, *optional*, defaults to `False`): Return Markdown instead of aligned plain text.
    """
    rows = [
        [label, *(f"{100 * metrics[f'{key}_{name}']:.1f}" for name in RETRIEVAL_COLUMNS)]
        for key, label in [*((code, language_name(code)) for code in languages), ("mean", "mean")]
    ]
    table = text_table(["language", *RETRIEVAL_COLUMNS.values()], rows, markdown=markdown, rules={0, len(languages)})
    consistency = [f"{title} {metrics[name]:.3f}" for name, title in CONSISTENCY_TITLES.items() if name in metrics]
    return f"{table}\n\nConsistency between languages: {', '.join(consistency)}." if consistency else table


def moments_table(metrics: Mapping[str, float], languages: Sequence[str], markdown: bool = False) -> str:
    """Format the figures of moments in percent: one row for each language, and one for their mean.

    Args:
        metrics (mapping): Figures as fractions, with keys `{language}_{figure}` and `mean_{figure}`.
        languages (sequence of `str`): FLORES-200 codes, in the order of the rows.
        markdown (`bool`, *optional*, defaults to `False`): Return Markdown instead of aligned plain text.
    """
    labels = {code: language_name(code) for code in languages} | {"mean": "mean"}
    rows = [
        [label, *(f"{100 * metrics[f'{key}_{name}']:.1f}" for name in MOMENT_FIGURES)] for key, label in labels.items()
    ]
    return text_table(["", *MOMENT_FIGURES], rows, markdown=markdown)
