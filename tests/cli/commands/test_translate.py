"""`atri translate` with a tiny NLLB, also killed in the middle."""

import json
from collections import Counter

import pytest

from modeling_atri.cli.commands.translate import summary_table
from modeling_atri.cli.main import main
from modeling_atri.corpora.folders.dropping import drop_overlaps
from modeling_atri.corpora.folders.overlap import Overlap
from modeling_atri.corpora.folders.prepared import read_clips
from modeling_atri.corpora.rows.bad_rows import read_bad_rows
from modeling_atri.corpora.translation.journal import hash_text
from modeling_atri.corpora.translation.translate import TranslationSummary
from modeling_atri.trainer import load_rows
from tests.helpers import translation_kills
from tests.helpers.forks import check_call
from tests.helpers.tiny import tiny_model, tiny_processor, tiny_tokenizer
from tests.helpers.translation import english_captions, learn, tiny_nllb, tiny_t5, tiny_t5_tokenizer, write_data


pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two translation models, a model for embeddings, and captions."""
    root = tmp_path_factory.mktemp("translate")
    for part in (tiny_nllb(), tiny_tokenizer()):
        part.save_pretrained(root / "model")
    for part in (tiny_t5(), tiny_t5_tokenizer()):
        part.save_pretrained(root / "madlad")
    for part in (tiny_model(), tiny_processor()):
        part.save_pretrained(root / "atri")
    write_data(root / "data", english_captions(10))
    return root


def arguments(folder, out, *more, model="model") -> list[str]:
    words = ["translate", str(folder / "data"), str(out), "--model", str(folder / model), "--languages", "fr", "ja"]
    return [*words, "--num_beams", "1", "--max_new_tokens", "8", *more]


def journal(out) -> list[dict]:
    return [json.loads(line) for line in (out / "translations.jsonl").read_text(encoding="utf-8").splitlines()]


def test_from_the_command_line_to_rows(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(arguments(folder, out, "--license", "cc-by-nc-4.0")) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split()[:4] == ["language", "total", "flagged", "kept"]
    rows = load_rows(out)
    num_captions = str(sum(len(row["captions"]["eng_Latn"]) for row in rows))
    table = [line.split() for line in shown[1:3]]
    assert [line[0] for line in table] == ["French", "Japanese"]
    assert all((line[1], line[3]) == ("20", num_captions) for line in table)
    num_texts = len({text for row in english_captions(10) for text in row["eng_Latn"]})
    assert shown[4].startswith(f"{2 * num_texts} texts translated in ")
    assert shown[5].startswith("The license of the captions is unknown") and "--source_license" in shown[5]
    assert shown[6] == f"Flagged captions are listed in {out / 'flagged.jsonl'}."
    assert list(rows[0]["captions"]) == ["eng_Latn", "fra_Latn", "jpn_Jpan"]
    text_of = {(line["language"], line["source_hash"]): line["text"] for line in journal(out)}
    for row in rows:
        assert set(row["captions"]["eng_Latn"]) <= set(english_captions(10)[int(row["audio_id"])]["eng_Latn"])
        for language in ("fra_Latn", "jpn_Jpan"):
            english = row["captions"]["eng_Latn"]
            assert row["captions"][language] == [text_of[language, hash_text(text)] for text in english]
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "translated by machine: model, license `cc-by-nc-4.0`" in card
    assert "\nlicense:" not in card
    assert "- license of the original captions: unknown\n- license of the translation model: `cc-by-nc-4.0`\n" in card
    assert main(arguments(folder, out, "--license", "cc-by-nc-4.0")) == 0
    assert "\n0 texts translated" in capsys.readouterr().out


def test_what_a_model_has_learnt_comes_out_right(tmp_path, capsys):
    texts = {
        "eng_Latn": ["A dog barks.", "Rain falls.", "A dog barks while rain falls."],
        "fra_Latn": ["Un chien aboie.", "La pluie tombe.", "Un chien aboie sous la pluie."],
        "jpn_Jpan": ["犬が吠えている。", "雨の中で。", "雨の中で犬が吠えている。"],
    }
    model = tiny_nllb()
    learn(model, texts)
    for part in (model, tiny_tokenizer()):
        part.save_pretrained(tmp_path / "nllb")
    write_data(tmp_path / "data", [{"eng_Latn": texts["eng_Latn"]}])
    words = ["translate", str(tmp_path / "data"), str(tmp_path / "out"), "--model", str(tmp_path / "nllb")]
    capsys.readouterr()
    assert main([*words, "--languages", "fr", "ja", "--quality", "round_trip"]) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()[:3]]
    assert table == [["language", "total", "flagged", "kept"], ["French", *"303"], ["Japanese", *"303"]]
    (row,) = load_rows(tmp_path / "out")
    assert row["captions"] == texts
    assert [line["score"] for line in journal(tmp_path / "out")] == [1.0] * 6


def test_more_captions_flagged_than_kept():
    flags = {"fra_Latn": Counter({"low score": 100, "empty": 20})}
    summary = TranslationSummary(num_captions=93, num_dropped_captions=107, num_flagged={"fra_Latn": 117}, flags=flags)
    assert [line.split() for line in summary_table(summary).splitlines()] == [
        ["language", "total", "flagged", "kept", "empty", "low", "score"],
        ["French", "200", "117", "93", "20", "100"],
    ]


def test_madlad_has_its_license_and_the_captions_theirs(folder, tmp_path, capsys):
    data = write_data(tmp_path / "data", english_captions(3))
    (data / "README.md").write_text("---\nlicense:\n- cc-by-4.0\n- cc-by-nc-4.0\n---\n# Captions\n")
    words = arguments(folder, tmp_path / "out", model="madlad")
    words[1] = str(data)
    capsys.readouterr()
    assert main(words) == 0
    assert "--source_license" not in capsys.readouterr().out
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "license:\n- cc-by-4.0\n- cc-by-nc-4.0\n- apache-2.0\n" in card
    assert "original captions: data, license `cc-by-4.0` and `cc-by-nc-4.0`\n" in card
    assert "translated by machine: madlad, license `apache-2.0`" in card


def test_clips_taken_out_of_the_output_are_told(folder, tmp_path, capsys):
    words = [*arguments(folder, tmp_path / "out", "--license", "mit"), "--on_bad_row", "skip"]
    assert main(words) == 0
    assert "as test data" not in capsys.readouterr().out
    first = read_clips(tmp_path / "out")[0]
    drop_overlaps([Overlap(first, first, ("id",), None)])
    assert main(words) == 0
    assert "overlap.jsonl lists them as test data: 1.\n" in capsys.readouterr().out
    assert [row.audio_id for row in read_bad_rows(tmp_path / "out" / "left_out.jsonl")] == [first.audio_id]


def test_quality_by_round_trip_and_by_embedding(folder, tmp_path):
    license = ("--license", "cc-by-nc-4.0")
    assert main(arguments(folder, tmp_path / "trip", *license, "--quality", "round_trip")) == 0
    assert all(0 <= line["score"] <= 1 for line in journal(tmp_path / "trip") if line["text"])
    quality = ("--quality", "embedding", "--quality_model", str(folder / "atri"))
    assert main(arguments(folder, tmp_path / "cosine", *license, *quality)) == 0
    (made,) = {json.dumps(line["quality"]) for line in journal(tmp_path / "cosine")}
    assert json.loads(made)["model"] == "atri" and len(json.loads(made)["fingerprint"]) == 32
    assert len({line["score"] for line in journal(tmp_path / "cosine")}) > 10
    assert "by atri (`" in (tmp_path / "cosine" / "README.md").read_text(encoding="utf-8")


def test_sentence_transformers_can_score(folder, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    words = StaticEmbedding(tiny_tokenizer().backend_tokenizer, embedding_dim=8)
    library.SentenceTransformer(modules=[words]).save(str(tmp_path / "static"))
    quality = ("--quality", "embedding", "--quality_model", str(tmp_path / "static"))
    assert main(arguments(folder, tmp_path / "out", "--license", "cc-by-nc-4.0", *quality)) == 0
    assert len({line["score"] for line in journal(tmp_path / "out")}) > 10
    assert all(-1 <= line["score"] <= 1 for line in journal(tmp_path / "out") if line["text"])


# Nothing is lost


@pytest.mark.slow
def test_killed_runs_go_on_to_the_same_bytes(folder, tmp_path):
    captions = english_captions(16)
    write_data(tmp_path / "data", captions)
    (tmp_path / "model").symlink_to(folder / "model")
    found = json.loads(check_call(translation_kills.run, tmp_path, 5, 0).splitlines()[-1])
    assert len(set(found)) > 2, found
    files = {
        name: {path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if path.name[0] != "."}
        for name in ("whole", "killed")
    }
    assert files["killed"] == files["whole"]
    keys = [(line["language"], line["source_hash"]) for line in journal(tmp_path / "killed")]
    texts = {text for row in captions for text in row["eng_Latn"]}
    assert len(keys) == len(set(keys)) == 2 * len(texts)


def test_mistakes(folder, tmp_path, capsys):
    out = str(tmp_path / "out")
    for more, message in (
        (["--quality", "embedding"], "--quality embedding and --quality_model must be given together"),
        (["--quality_model", "x"], "--quality embedding and --quality_model must be given together"),
        (["--min_score", "0.5"], "--min_score is a limit for scores"),
        (["--device", "nonsense"], "The device 'nonsense' cannot be used"),
        (["--dtype", "int8"], "invalid choice: 'int8'"),
        (["--languages", "frenc"], "French"),
        (["--languages", "it"], "has no token for ita_Latn (Italian)"),
        (["--source", "de"], "has no captions in deu_Latn"),
        (["--num_beams", "0"], "`num_beams` must be at least 1"),
        (["--model", str(tmp_path / "none")], "There is no folder"),
        (["--model", str(folder / "atri")], "supported are NLLB-200"),
        (["--data", str(tmp_path / "none")], "There is no folder or file"),
    ):
        words = arguments(folder, out, "--license", "mit", *more)
        if more[0] == "--data":
            del words[1]
            words = ["translate", str(tmp_path / "none"), *words[1:-2]]
        assert main(words) == 2, more
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
    assert main(arguments(folder, out)) == 2
    assert "The license of model is not known" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_another_decoding_is_refused(folder, tmp_path, capsys):
    words = arguments(folder, tmp_path / "out", "--license", "cc-by-nc-4.0")
    assert main(words) == 0
    capsys.readouterr()
    assert main([*words, "--num_beams", "2"]) == 2
    assert "made in another way (decoding was {" in capsys.readouterr().err
    assert main([*words, "--num_beams", "2", "--retranslate"]) == 0
