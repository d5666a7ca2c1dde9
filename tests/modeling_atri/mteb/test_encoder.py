import io
import sys
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, Dataset
from torch.utils.data import DataLoader

from modeling_atri.encode.encoding import encode_audio, encode_text
from modeling_atri.encode.fingerprints import model_fingerprint
from modeling_atri.mteb.encoder import AtriMtebEncoder
from modeling_atri.trainer.metrics import retrieval_metrics
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.towerless import SOURCE, embedded_model, embedded_processor
from tests.helpers.towers import TOWERS, tower_model, tower_processor


pytest.importorskip("mteb", reason="needs the extra: pip install 'modeling_atri[mteb]'")

import mteb
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification
from mteb.models import EncoderProtocol
from scipy.stats import spearmanr


pytestmark = pytest.mark.heavy


RATE = 16_000  # Hz
CAPTIONS = {
    "eng": ["a dog barks", "rain falls", "a siren", "a dog and rain", "rain, then a siren", "a dog barks twice"],
    "fra": ["un chien aboie", "la pluie tombe", "une sirène", "un chien et la pluie", "la pluie", "un chien"],
}
CODES = {"eng": "eng_Latn", "fra": "fra_Latn"}


def task_metadata(name: str, **overrides: Any) -> TaskMetadata:
    fields = {
        "name": name,
        "description": "A few made-up sounds and captions.",
        "reference": None,
        "dataset": {"path": "none", "revision": "none"},
        "type": "Any2AnyRetrieval",
        "category": "t2a",
        "modalities": ["audio", "text"],
        "eval_splits": ["test"],
        "eval_langs": {"eng": ["eng-Latn"], "fra": ["fra-Latn"]},
        "main_score": "ndcg_at_10",
        "date": ("2026-01-01", "2026-01-01"),
        "domains": ["AudioScene"],
        "task_subtypes": ["Environment Sound Retrieval"],
        "license": "cc0-1.0",
        "annotations_creators": "derived",
        "dialect": [],
        "sample_creation": "created",
        "bibtex_citation": "",
    }
    return TaskMetadata(**(fields | overrides))


def sounds(rate: int = RATE) -> list[np.ndarray]:
    """Chirps of six lengths, the same sounds whatever the rate."""
    clips = []
    for index in range(6):
        seconds = np.arange(int(rate * (0.4 + 0.1 * index))) / rate
        clips.append((0.3 * np.sin(2 * np.pi * (300 + 400 * index + 500 * seconds) * seconds)).astype(np.float32))
    return clips


def flac(waveform: np.ndarray, rate: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, rate, format="FLAC")
    return buffer.getvalue()


class TextToSound(AbsTaskRetrieval):
    """Captions in two languages against recordings as most tasks have them: files, a `datasets.Audio` column."""

    metadata = task_metadata("AtriTextToSound")

    def load_data(self, **kwargs: Any) -> None:
        files = [{"bytes": flac(clip, 44_100), "path": None} for clip in sounds(44_100)]
        corpus = Dataset.from_dict({"id": [f"d{i}" for i in range(6)], "audio": files}).cast_column("audio", Audio())
        self.dataset = {
            subset: {
                "test": {
                    "corpus": corpus,
                    "queries": Dataset.from_dict({"id": [f"q{i}" for i in range(6)], "text": captions}),
                    "relevant_docs": {f"q{i}": {f"d{i}": 1} for i in range(6)},
                    "top_ranked": None,
                }
            }
            for subset, captions in CAPTIONS.items()
        }
        self.data_loaded = True


class Paraphrases(AbsTaskSTS):
    metadata = task_metadata(
        "AtriParaphrases",
        type="STS",
        category="t2t",
        modalities=["text"],
        eval_langs={"eng": ["eng-Latn"], "fra": ["fra-Latn"]},
        main_score="cosine_spearman",
        task_subtypes=[],
    )
    scores = [5.0, 1.0, 4.0, 2.0, 3.0, 0.0]

    def load_data(self, **kwargs: Any) -> None:
        self.dataset = {
            subset: {
                "test": Dataset.from_dict(
                    {"sentence1": captions, "sentence2": captions[1:] + captions[:1], "score": self.scores}
                )
            }
            for subset, captions in CAPTIONS.items()
        }
        self.data_loaded = True


class Sounds(AbsTaskZeroShotClassification):
    """Sounds as decoded arrays against English names of classes; the task has no language of its own."""

    metadata = task_metadata(
        "AtriSounds",
        type="AudioZeroshotClassification",
        category="a2t",
        eval_langs=["zxx-Zxxx"],
        main_score="accuracy",
        task_subtypes=["Environment Sound Classification"],
    )
    input_column_name = "audio"
    label_column_name = "label"

    def load_data(self, **kwargs: Any) -> None:
        clips = [{"array": clip, "sampling_rate": RATE} for clip in sounds()]
        self.dataset = {"test": Dataset.from_dict({"audio": clips, "label": [0, 1, 2, 0, 1, 2]})}
        self.data_loaded = True

    def get_candidate_labels(self) -> list[str]:
        return ["a dog", "rain", "a siren"]


@pytest.fixture(scope="module")
def encoder() -> AtriMtebEncoder:
    return AtriMtebEncoder(tiny_model(), tiny_processor())


def run(encoder: AtriMtebEncoder, *tasks: Any) -> dict[str, dict[str, dict[str, float]]]:
    """Scores of each task by subset."""
    results = mteb.evaluate(
        encoder, tasks, cache=None, show_progress_bar=False, co2_tracker=False, encode_kwargs={"batch_size": 4}
    )
    return {result.task_name: {score["hf_subset"]: score for score in result.scores["test"]} for result in results}


def load(encoder: AtriMtebEncoder, columns: dict[str, list], langs: Any, subset: str = "default") -> np.ndarray:
    def collate(rows: list[dict]) -> dict[str, list]:
        return {column: [row[column] for row in rows] for column in columns}

    loader = DataLoader(Dataset.from_dict(columns), batch_size=4, collate_fn=collate)
    metadata = task_metadata("AtriAny", eval_langs=langs)
    return encoder.encode(loader, task_metadata=metadata, hf_split="test", hf_subset=subset)


# Other audio sides


def test_a_tower_of_another_rate_gets_recordings_at_its_rate():
    model, processor = tower_model(TOWERS["clap"]), tower_processor(TOWERS["clap"])
    recordings = [{"array": clip, "sampling_rate": RATE} for clip in sounds()[:2]]
    found = load(AtriMtebEncoder(model, processor), {"audio": recordings}, ["zxx-Zxxx"])
    np.testing.assert_allclose(found, encode_audio(model, processor, recordings, num_workers=0), atol=1e-5)


def test_without_an_audio_tower_there_are_texts_alone():
    encoder = AtriMtebEncoder(embedded_model(), embedded_processor())
    assert encoder.mteb_model_meta.modalities == ["text"]
    found = load(encoder, {"text": CAPTIONS["eng"]}, ["eng-Latn"])
    np.testing.assert_allclose(found, encode_text(encoder.model, encoder.processor, CAPTIONS["eng"]), atol=1e-5)
    with pytest.raises(ValueError, match=f"no audio tower.*{SOURCE}"):
        load(encoder, {"audio": [{"array": sounds()[0], "sampling_rate": RATE}]}, ["zxx-Zxxx"])


# Scores


def test_scores_equal_our_own(encoder):
    model, processor = encoder.model, encoder.processor
    scores = run(encoder, TextToSound(), Paraphrases(), Sounds())

    audio = encode_audio(model, processor, [flac(clip, 44_100) for clip in sounds(44_100)])
    values = {}
    for subset, captions in CAPTIONS.items():
        text = encode_text(model, processor, captions, CODES[subset])
        expected = values[subset] = retrieval_metrics(audio, text, np.arange(6))
        found = scores["AtriTextToSound"][subset]
        for k in (1, 5, 10):
            assert found[f"recall_at_{k}"] == pytest.approx(expected[f"text_to_audio_R@{k}"], abs=1e-5)
        assert found["map_at_10"] == pytest.approx(expected["text_to_audio_mAP@10"], abs=1e-5)

        cosines = (text * np.roll(text, -1, axis=0)).sum(axis=1)
        assert scores["AtriParaphrases"][subset]["cosine_spearman"] == pytest.approx(
            spearmanr(cosines, Paraphrases.scores).statistic, abs=1e-6
        )
    assert values["eng"] != values["fra"], "the subsets must differ, else a wrong language would go unseen"

    clips = encode_audio(model, processor, sounds(), sampling_rate=RATE)
    labels = encode_text(model, processor, ["a dog", "rain", "a siren"], "eng_Latn")
    accuracy = np.mean((clips @ labels.T).argmax(axis=1) == np.array([0, 1, 2, 0, 1, 2]))
    assert scores["AtriSounds"]["default"]["accuracy"] == pytest.approx(accuracy)


def test_results_of_another_model_are_not_taken_from_the_cache(encoder, tmp_path):
    cache = mteb.ResultCache(cache_path=tmp_path)
    found = []
    for seed in (0, 1):
        other = AtriMtebEncoder(tiny_model(seed=seed), encoder.processor)
        results = mteb.evaluate(other, Paraphrases(), cache=cache, show_progress_bar=False, co2_tracker=False)
        found.append(results.task_results[0].scores["test"][0]["cosine_spearman"])
    assert abs(found[0] - found[1]) > 1e-3, "the cache rounds"


# Inputs


def test_decoded_and_undecoded_sounds_at_any_rate(encoder):
    expected = encode_audio(encoder.model, encoder.processor, sounds(), sampling_rate=RATE)
    stereo = [np.stack([clip, clip]) for clip in sounds(44_100)]
    for clips, rate in ((sounds(), RATE), (sounds(44_100), 44_100), (stereo, 44_100)):
        column = [{"array": clip, "sampling_rate": rate} for clip in clips]
        embeds = load(encoder, {"audio": column}, ["eng-Latn"])
        assert embeds.shape == (6, encoder.model.config.projection_dim)
        np.testing.assert_allclose(embeds, expected, atol=1e-5 if rate == RATE else 2e-2)


def test_a_short_sound_is_padded(encoder):
    clip = 0.1 * np.ones(100, dtype=np.float32)
    embeds = load(encoder, {"audio": [{"array": clip, "sampling_rate": RATE}]}, ["eng-Latn"])
    expected = encode_audio(encoder.model, encoder.processor, [np.pad(clip, (0, 2300))], sampling_rate=RATE)
    np.testing.assert_allclose(embeds, expected, atol=1e-6)


def test_text_with_sound_is_the_normalised_sum(encoder):
    column = [{"array": clip, "sampling_rate": RATE} for clip in sounds()]
    text, audio = (load(encoder, part, ["eng-Latn"]) for part in ({"text": CAPTIONS["eng"]}, {"audio": column}))
    both = load(encoder, {"text": CAPTIONS["eng"], "audio": column}, ["eng-Latn"])
    expected = (text + audio) / np.linalg.norm(text + audio, axis=1, keepdims=True)
    np.testing.assert_allclose(both, expected, atol=1e-6)


def test_wrong_inputs(encoder):
    with pytest.raises(ValueError, match=r"gives the columns \['image'\]; ATRI encodes `text` and `audio`"):
        load(encoder, {"image": [1]}, ["eng-Latn"])
    loader = DataLoader(Dataset.from_dict({"text": ["a"]}))
    with pytest.raises(ValueError, match="`precision` is 'int8'"):
        encoder.encode(loader, task_metadata=TextToSound.metadata, hf_split="test", hf_subset="eng", precision="int8")


# Languages


@pytest.mark.parametrize(
    "langs, subset, code",
    [
        (["deu-Latn"], "default", "deu_Latn"),
        ({"a": ["fra-Latn"], "b": ["cmn-Hans"]}, "b", "zho_Hans"),
        (["zxx-Zxxx"], "default", "eng_Latn"),
        (["spa-Latn", "zxx-Zxxx"], "default", "spa_Latn"),
        ({"fra_Latn-jpn_Jpan": ["fra-Latn", "jpn-Jpan"]}, "jpn_Jpan", "jpn_Jpan"),  # one side of a parallel bitext
    ],
)
def test_language_of_a_subset(encoder, langs, subset, code):
    expected = encode_text(encoder.model, encoder.processor, CAPTIONS["eng"], code)
    np.testing.assert_allclose(load(encoder, {"text": CAPTIONS["eng"]}, langs, subset), expected, atol=1e-6)


def test_several_languages_need_one_named(encoder):
    langs = ["eng-Latn", "fra-Latn"]
    with pytest.raises(ValueError, match=r"names 2 languages for its subset 'default' \(eng_Latn, fra_Latn\)"):
        load(encoder, {"text": ["a"]}, langs)
    named = AtriMtebEncoder(encoder.model, encoder.processor, language="fr")
    expected = encode_text(encoder.model, encoder.processor, ["un chien"], "fra_Latn")
    np.testing.assert_allclose(load(named, {"text": ["un chien"]}, langs), expected, atol=1e-6)
    with pytest.raises(ValueError, match="Unknown language 'xx'"):
        AtriMtebEncoder(encoder.model, encoder.processor, language="xx")


# Protocol


def test_follows_the_protocol(encoder):
    assert isinstance(encoder, EncoderProtocol)
    first, second = torch.randn(3, 5), torch.randn(3, 5)
    expected = torch.nn.functional.cosine_similarity(first[:, None], second[None], dim=-1)
    torch.testing.assert_close(encoder.similarity(first.numpy(), second), expected)
    torch.testing.assert_close(encoder.similarity(first[0], second), expected[:1])
    torch.testing.assert_close(encoder.similarity_pairwise(first, second.numpy()), expected.diagonal())


def test_model_meta(encoder, tmp_path):
    meta = encoder.mteb_model_meta
    assert (meta.name, meta.revision) == ("local/atri", model_fingerprint(encoder.model, encoder.processor))
    assert meta.modalities == ["audio", "text"]
    assert (meta.embed_dim, meta.max_tokens) == (12, 512)
    assert meta.n_parameters == sum(parameter.numel() for parameter in encoder.model.parameters())
    assert {"eng-Latn", "zho-Hans"} < set(meta.languages)
    assert len(meta.languages) == 8

    folder = tmp_path / "my model"
    encoder.model.save_pretrained(folder)
    encoder.processor.save_pretrained(folder)
    loaded = AtriMtebEncoder.from_pretrained(folder, device="cpu", batch_size=2, language="fr")
    assert loaded.mteb_model_meta.name == "local/my model"
    assert loaded.mteb_model_meta.revision == meta.revision
    assert loaded.mteb_model_meta.experiment_kwargs == {"language": "fra_Latn"}
    with torch.no_grad():
        loaded.model.logit_scale += 1
    assert model_fingerprint(loaded.model, loaded.processor) != meta.revision


def test_without_mteb(encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb.models", None)
    with pytest.raises(ImportError, match=r"pip install 'modeling_atri\[mteb\]'"):
        _ = AtriMtebEncoder(encoder.model, encoder.processor).mteb_model_meta
