"""What a card says of a taught model: whose space it is, what was taught from what, and the teacher's license."""

import copy

import pytest

from modeling_atri.hub_cards import make_model_card
from modeling_atri.hub_cards.cards.taught import embedding_space_text, listed
from modeling_atri.hub_cards.results import UNKNOWN_MAKER
from tests.helpers.local_hub import card_problems


TEACHER = {
    "name": "laion/larger_clap_general",
    "kind": "clap",
    "license": "apache-2.0",
    "width": 512,
    "num_captions": 1000,
}
TAUGHT = {
    "training": {
        "objective": "teach",
        "anchor_language": "eng_Latn",
        "languages": ["eng_Latn", "fra_Latn", "jpn_Jpan"],
        "teacher": TEACHER,
        "distill_weight": 1.0,
        "teach_audio": "none",
        "num_train_clips": 900,
        "seed": 0,
    },
    "model": {"projection_dim": 512, "initialized_from": "laion/larger_clap_general and tester/text"},
    "teaching": {"held_back_captions": 50, "held_back_cosine": {"eng_Latn": 0.98, "fra_Latn": 0.9512}},
}


def taught(teacher: dict | None = None, **training) -> dict:
    facts = copy.deepcopy(TAUGHT)
    facts["training"] |= training
    facts["training"]["teacher"] |= teacher or {}
    return facts


def test_what_the_card_of_a_taught_model_says():
    card = make_model_card(TAUGHT, "out")
    assert card_problems(str(card)) == []
    _, space = card.text.split("## Embedding space\n\n")
    assert space.split("\n\n## ")[0].split("\n\n") == [
        "The embeddings are in the space of `laion/larger_clap_general` (512 numbers, L2-normalised). The text side "
        "was trained to give a caption in any of the languages above the embedding that `laion/larger_clap_general` "
        "gives to its English version. The training data were 1000 English captions and their translations. No sounds "
        "were used.",
        "The audio side is that of `laion/larger_clap_general`, and training did not change it. Audio embeddings that "
        "`laion/larger_clap_general` has made, such as those of an archive, stay valid. This model searches them in "
        "all the languages above.",
        "Mean cosine to the teacher's English embedding, on 50 captions held back from training: English 0.980, "
        "French 0.951.",
    ]
    assert "- weight of the squared distance to the teacher: 1\n- training rows: 900\n" in card.text
    assert "term between audio and texts" not in card.text
    license = "The teacher, `laion/larger_clap_general`, is published under `apache-2.0`."
    assert f"## License\n\n{license}\n" in card.text
    assert card.data.license is None, "the license of the text side is not known"


def test_sounds_held_languages_and_the_recall_of_the_teacher():
    facts = taught(teach_audio="akcl", hold_languages=["fra_Latn", "eng_Latn"])
    facts["teaching"] = {"teacher_recall": 0.2216}
    text = make_model_card(facts, "out").text
    assert "Frozen audio embeddings were used too (AKCL)." in text
    assert "The embeddings of these languages were kept: French and English." in text
    assert "the teacher's embeddings of the English captions reach 22.2 % text-to-audio R@1." in text
    assert "- term between audio and texts: akcl\n" in text
    assert "- held languages: French and English\n" in text


@pytest.mark.parametrize(
    "teacher, name, kept",
    [
        ({"kind": "self", "name": None}, "`laion/larger_clap_general and tester/text`", "The audio side is that of"),
        ({"kind": "atri", "name": "first"}, "`first`", "The audio side is that of"),
        ({"kind": "sentence_transformers", "name": "me/st"}, "`me/st`", "Audio embeddings in the space of"),
        (
            {"kind": "column", "name": "clap"},
            "the vectors in the column `clap` of the training data",
            "Audio embeddings in",
        ),
    ],
)
def test_every_kind_of_teacher(teacher, name, kept):
    text = embedding_space_text(taught(teacher))
    assert text.startswith(f"The embeddings are in the space of {name} (512 numbers")
    assert f"\n\n{kept}" in text


def test_the_license_of_the_teacher_stands_beside_that_of_sonar():
    facts = copy.deepcopy(TAUGHT)
    facts["model"]["base_model"] = ["laion/larger_clap_general", "cointegrated/SONAR_200_text_encoder"]
    card = make_model_card(facts, "out")
    assert card.data.license == "cc-by-nc-4.0"
    assert "Commercial use is not allowed. The teacher, `laion/larger_clap_general`, is published" in card.text
    facts["training"]["teacher"]["license"] = None
    assert "The teacher, " not in make_model_card(facts, "out").text


def test_a_model_without_an_audio_tower_is_shown_with_stored_embeddings():
    facts = copy.deepcopy(TAUGHT)
    facts["model"]["audio_embedded_by"] = "laion/larger_clap_general"
    card = make_model_card(facts, "out")
    assert card_problems(str(card)) == []
    assert "It embeds captions in 3 languages, to search sounds\nby their embeddings, which `laion/larger" in card.text
    assert "embeddings of your sounds, made by laion/larger_clap_general: (sounds, 512), L2-normalised" in card.text
    assert "This model has no audio tower. It searches embeddings of sounds" in card.text
    assert "The audio side is that of" not in card.text
    assert "Audio embeddings in the space of `laion/larger_clap_general` stay valid" in card.text
    assert "encode_audio" not in card.text
    assert ".wav" not in card.text


def test_an_unknown_maker_of_embeddings_is_said_in_words():
    facts = copy.deepcopy(TAUGHT)
    facts["model"]["audio_embedded_by"] = UNKNOWN_MAKER
    text = make_model_card(facts, "out").text
    assert "by their embeddings, which another model, whose name is not known, has made." in text
    assert "embeddings of sounds that another model, whose name is not known, has made." in text
    assert "`another model`" not in text


def test_lists_in_sentences():
    assert [listed(list(names)) for names in ("A", "AB", "ABC")] == ["A", "A and B", "A, B and C"]
