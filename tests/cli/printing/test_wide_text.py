"""Tables with wide characters, cut to the width of a terminal."""

import pytest

from modeling_atri.cli.printing.wide_text import cut_to, display_width, fitting_table


@pytest.mark.parametrize(
    "text, width", [("dog", 3), ("犬", 2), ("é", 1), ("e\u0301", 1), ("犬 dog", 6), ("ﾊ", 1), ("", 0)]
)
def test_width_in_a_terminal(text, width):
    assert display_width(text) == width


@pytest.mark.parametrize(
    "text, width, cut",
    [("barking", 7, "barking"), ("barking", 4, "bar…"), ("犬が吠える", 10, "犬が吠える"), ("犬が吠える", 6, "犬が…")],
)
def test_a_long_text_ends_with_an_ellipsis(text, width, cut):
    assert cut_to(text, width) == cut and display_width(cut) <= width


HEADER, ROWS = (
    ["rank", "path", "tags", "place"],
    [["1", "犬.wav", "dog barks", "a long name of a place"], ["10", "b.wav", "x", "y"]],
)


def test_columns_are_aligned_by_width():
    assert fitting_table(HEADER, ROWS, "><").splitlines() == [
        "rank  path    tags       place",
        "   1  犬.wav  dog barks  a long name of a place",
        "  10  b.wav   x          y",
    ]


def test_the_last_column_that_fits_is_cut_and_the_next_is_left_out():
    assert fitting_table(HEADER, ROWS, "><", 40).splitlines()[1] == "   1  犬.wav  dog barks  a long name of…"
    assert fitting_table(HEADER, ROWS, "><", 30).splitlines()[0] == "rank  path    tags"
    assert fitting_table(HEADER, ROWS, "><", 5).splitlines()[0] == "rank  path"  # these are always whole


@pytest.mark.parametrize("width", range(24, 60))
def test_no_line_is_wider_than_the_terminal(width):
    assert max(map(display_width, fitting_table(HEADER, ROWS, "><", width).splitlines())) <= width


def test_line_breaks_in_values_do_not_break_the_table():
    assert len(fitting_table(HEADER, [["1", "a.wav", "two\nlines", ""]], "><").splitlines()) == 2
