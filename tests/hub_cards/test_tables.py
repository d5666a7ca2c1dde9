import pytest

from modeling_atri.hub_cards.tables import counted, text_table


HEADER = ["language", "R@1", "note"]
ROWS = [["English", "46.2", "first"], ["Japanese", 9.5, ""]]


def test_aligned_text_keeps_columns_below_one_another():
    assert text_table(HEADER, ROWS, align="<><").splitlines() == [
        "language   R@1  note",
        "English   46.2  first",
        "Japanese   9.5",
    ]


def test_by_default_only_the_first_column_is_aligned_left():
    assert text_table(["a", "bb"], [["long", 1]]) == "a     bb\nlong   1"


def test_rules_stand_above_the_rows_they_name():
    assert text_table(["a", "b"], [["c", "1"], ["d", "2"]], rules={0, 1}).splitlines() == [
        "a  b",
        "----",
        "c  1",
        "----",
        "d  2",
    ]


def test_markdown_says_how_columns_are_aligned():
    assert text_table(HEADER, ROWS, align="<><", markdown=True, rules={0}).splitlines() == [
        "| language | R@1 | note |",
        "| --- | ---: | --- |",
        "| English | 46.2 | first |",
        "| Japanese | 9.5 |  |",
    ]


def test_a_table_may_have_no_rows():
    assert text_table(["a", "b"], []) == "a  b"


@pytest.mark.parametrize(
    "rows, align", [([["one"]], None), ([["one", "two"]], "<"), ([["one", "two", "three"]], None)]
)
@pytest.mark.parametrize("markdown", [False, True])
def test_columns_must_be_equally_many(rows, align, markdown):
    with pytest.raises(ValueError):
        text_table(["a", "b"], rows, align=align, markdown=markdown)


@pytest.mark.parametrize("number, text", [(0, "0 wrong rows"), (1, "1 wrong row"), (2, "2 wrong rows")])
def test_numbers_have_nouns_in_the_right_form(number, text):
    assert counted(number, "wrong row") == text
