"""Licenses of translation models and of what they make."""

import pytest
from huggingface_hub import ModelCard, ModelCardData

from modeling_atri.corpora.translation.licenses import joint_license, translation_license


def test_licenses(tmp_path):
    assert translation_license("facebook/nllb-200-3.3B") == "cc-by-nc-4.0"
    assert translation_license("google/madlad400-3b-mt") == "apache-2.0"
    assert translation_license("google/madlad400-3b-mt", "apache-2.0") == "apache-2.0"
    with pytest.raises(ValueError, match="'mit' was given, but facebook/nllb-200-3.3B is cc-by-nc-4.0"):
        translation_license("facebook/nllb-200-3.3B", "mit")
    folder = tmp_path / "ours"
    folder.mkdir()
    with pytest.raises(ValueError, match="license of ours is not known"):
        translation_license(folder)
    assert translation_license(folder, "mit") == "mit"
    (folder / "README.md").write_text("---\nlicense: unknown\n---\n# Ours")
    with pytest.raises(ValueError, match="license of ours is not known"):
        translation_license(folder)
    ModelCard(f"---\n{ModelCardData(license='cc-by-4.0').to_yaml()}\n---\n# Ours").save(folder / "README.md")
    assert translation_license(folder) == "cc-by-4.0"
    (folder / "README.md").write_text("# No metadata")
    assert translation_license(folder, "mit") == "mit"
    (tmp_path / "my-NLLB-600M").mkdir()
    assert translation_license(tmp_path / "my-NLLB-600M") == "cc-by-nc-4.0"


@pytest.mark.parametrize(
    "parts, expected",
    [
        (("mit", "mit"), "mit"),
        (("cc-by-4.0", "mit"), ["cc-by-4.0", "mit"]),
        ((["cc-by-4.0", "mit"], "mit"), ["cc-by-4.0", "mit"]),
        (("mit", None), None),
        (([], "mit"), None),
    ],
)
def test_the_license_of_a_work_of_two(parts, expected):
    assert joint_license(*parts) == expected
