"""The pages of results include parts of generated tables by marks that the tables have."""

import re

import pytest


INCLUDE = re.compile(r"^```\{include\} (\S+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
MARK = re.compile(r"^:(?:start-after|end-before): (.+)$", re.MULTILINE)


def test_the_marks_are_found(repository_root):
    folder, num_marks = repository_root / "docs" / "results", 0
    for page in folder.glob("*.md"):
        for file, options in INCLUDE.findall(page.read_text(encoding="utf-8")):
            text = (folder / file).read_text(encoding="utf-8")
            places = [text.find(mark) for mark in MARK.findall(options)]
            assert places == sorted(places), page  # the beginning comes before the end
            assert -1 not in places, page
            num_marks += len(places)
    assert num_marks >= 4


@pytest.mark.parametrize("page", ["paper_condition", "equal_cost"])
def test_pages_about_runs_that_go_on_have_no_figures_of_their_own(repository_root, page):
    """Written figures would be out of date after the next run; the tables that are included have them."""
    text = (repository_root / "docs" / "results" / f"{page}.md").read_text(encoding="utf-8")
    assert not re.findall(r"\d+\.\d+ \[|p [<=] \d|\d of the planned", text)
