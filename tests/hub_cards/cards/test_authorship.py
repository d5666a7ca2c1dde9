"""A card that was made is made anew; one that a person wrote, or wrote into, is never lost."""

import pytest
from huggingface_hub import ModelCard

from modeling_atri.hub_cards import make_model_card
from modeling_atri.hub_cards.cards.authorship import is_made_here, kept_card, signed, write_card
from tests.helpers.results import ON_THE_HUB, RESULTS


CARD = signed(str(make_model_card(RESULTS, "runs/first")))


def test_a_made_card_is_replaced(tmp_path, caplog):
    for facts in (RESULTS, ON_THE_HUB):
        write_card(make_model_card(facts, "out"), tmp_path)
        text = (tmp_path / "README.md").read_text(encoding="utf-8")
        assert is_made_here(text)
        assert ModelCard(text).data.to_dict() == make_model_card(facts, "out").data.to_dict()
    assert "tester/clips" in text
    assert caplog.text == ""


@pytest.mark.parametrize(
    "text",
    [
        "# Mine\n",
        CARD.replace("## Limits", "My remarks.\n\n## Limits"),
        CARD.replace("library_name", "license: mit\nlibrary_name"),
        CARD + "My remarks.\n",
        CARD[: CARD.index("<!-- made by")],
        "",
    ],
)
def test_what_somebody_wrote_stays(tmp_path, caplog, text):
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert not is_made_here(text)
    write_card(make_model_card(ON_THE_HUB, "out"), tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == text
    assert "was written or changed by hand and is kept. Delete it to have a card generated" in caplog.text


def test_signing_twice_changes_nothing():
    assert is_made_here(CARD)
    assert signed(CARD) == CARD


def test_a_card_is_kept_from_those_who_write_beside_it(tmp_path):
    path = tmp_path / "README.md"
    with kept_card(tmp_path):
        path.write_text("made by another")
    assert not path.exists()
    path.write_text("mine")
    with kept_card(tmp_path):
        path.write_text("made by another")
    assert path.read_text() == "mine"
