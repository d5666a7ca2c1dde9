"""Pipelines: against the model itself, transformers' own pipeline, and a process without the package."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModel,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    pipeline,
)
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.pt_utils import KeyDataset
from transformers.pipelines.zero_shot_audio_classification import ZeroShotAudioClassificationPipeline

from modeling_atri import (
    AtriAudioTextFeatureExtractionPipeline,
    AtriAudioTextRetrievalPipeline,
    AtriFeatureExtractor,
    AtriProcessor,
    AtriZeroShotAudioClassificationPipeline,
)
from modeling_atri.audio_io import load_audio
from modeling_atri.configuration_atri import CUSTOM_PIPELINES
from modeling_atri.encode.encoding import encode_audio, encode_text
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.pipelines_atri import HYPOTHESIS_TEMPLATES
from modeling_atri.sound_files_atri import names_sound
from modeling_atri.trainer.scratch.tokenizer import train_tokenizer
from tests.helpers.local_hub import LocalHub
from tests.helpers.tiny import CAPTIONS, tiny_model, tiny_processor


TEXTS, LANGUAGES = list(CAPTIONS.values()), list(CAPTIONS)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


@pytest.fixture(scope="module")
def folder(model, processor, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """At 16 kHz: one chunk, the shortest there may be, more than a chunk."""
    generator = np.random.default_rng(0)
    return [(0.1 * generator.standard_normal(size)).astype(np.float32) for size in (16000, 2400, 170_000)]


@pytest.fixture(scope="module")
def files(clips, tmp_path_factory) -> list[str]:
    """The clips as files; the last one is stereo, at 44.1 kHz."""
    folder = tmp_path_factory.mktemp("sounds")
    paths = [str(folder / name) for name in ("first.wav", "second.flac", "third.wav")]
    soundfile.write(paths[0], clips[0], 16000, subtype="FLOAT")
    soundfile.write(paths[1], clips[1], 16000, subtype="PCM_24")
    soundfile.write(paths[2], np.stack([clips[2], -0.5 * clips[2]], axis=1), 44100, subtype="FLOAT")
    return paths


@pytest.fixture(scope="module")
def extractor(folder) -> AtriAudioTextFeatureExtractionPipeline:
    return pipeline("audio-text-feature-extraction", model=folder)


@pytest.fixture(scope="module")
def retriever(folder) -> AtriAudioTextRetrievalPipeline:
    return pipeline("audio-text-retrieval", model=folder)


@pytest.fixture(scope="module")
def classifier(folder) -> AtriZeroShotAudioClassificationPipeline:
    return pipeline(
        "zero-shot-audio-classification", model=folder, pipeline_class=AtriZeroShotAudioClassificationPipeline
    )


@pytest.fixture(scope="module")
def audio_embeds(model, processor, files) -> np.ndarray:
    """One by one, from `get_audio_features`."""
    with torch.no_grad():
        inputs = [processor(audio=load_audio(file), sampling_rate=16000) for file in files]
        return np.concatenate([model.get_audio_features(**item).pooler_output.numpy() for item in inputs])


@pytest.fixture(scope="module")
def text_embeds(model, processor) -> np.ndarray:
    """Each caption alone in its own language, from `get_text_features`."""
    with torch.no_grad():
        inputs = [processor(text=text, language=language) for language, text in CAPTIONS.items()]
        return np.concatenate([model.get_text_features(**item).pooler_output.numpy() for item in inputs])


def assert_close(actual, expected, atol: float = 1e-6) -> None:
    np.testing.assert_allclose(np.asarray(actual), expected, atol=atol, rtol=0)


class TestFeatureExtraction:
    def test_is_found_by_its_task(self, extractor, folder):
        assert type(extractor) is AtriAudioTextFeatureExtractionPipeline
        offline = pipeline("audio-text-feature-extraction", model=folder, local_files_only=True)
        assert offline("a dog").shape == (12,)

    def test_one_sound_and_one_caption(self, extractor, files, audio_embeds, text_embeds):
        embedding = extractor(files[0])
        assert (type(embedding), embedding.shape, embedding.dtype) == (np.ndarray, (12,), np.float32)
        assert_close(embedding, audio_embeds[0])
        assert_close(extractor(TEXTS[1], language="fr"), text_embeds[1])
        assert_close(extractor({"text": TEXTS[1], "language": "French"}), text_embeds[1])
        assert np.abs(extractor(TEXTS[1]) - text_embeds[1]).max() > 1e-3, "the language counts"

    @pytest.mark.parametrize("batch_size", [1, 2, 8])
    def test_batches_equal_one_by_one(self, extractor, files, audio_embeds, text_embeds, batch_size):
        assert_close(extractor(files, batch_size=batch_size), audio_embeds, 1e-5)
        assert_close(extractor(TEXTS, language=LANGUAGES, batch_size=batch_size), text_embeds, 1e-5)

    def test_kinds_of_sounds(self, extractor, clips, files, audio_embeds):
        path = Path(files[0])
        sounds = [
            path,
            path.read_bytes(),
            clips[0],
            torch.from_numpy(clips[0]),
            {"array": clips[0], "sampling_rate": 16000},
            {"raw": clips[0].tolist(), "sampling_rate": 16000},
            {"path": str(path), "bytes": None},
            {"audio": str(path)},
        ]
        assert_close(extractor(sounds), audio_embeds[:1].repeat(len(sounds), axis=0))
        assert_close(extractor(tuple(files)), audio_embeds)
        with soundfile.SoundFile(files[2]) as file:
            waveform = file.read(dtype="float32").mean(axis=1)
        assert_close(extractor(waveform, sampling_rate=44100), audio_embeds[2])
        assert_close(extractor({"raw": waveform, "sampling_rate": 44100}), audio_embeds[2])

    def test_generators_and_data_sets_stream(self, extractor, files, audio_embeds, text_embeds):
        seen = []

        def stream():
            for file in files:
                seen.append(file)
                yield file

        embeddings = iter(extractor(stream()))
        assert_close(next(embeddings), audio_embeds[0])
        assert len(seen) < len(files)
        assert_close(list(embeddings), audio_embeds[1:])
        data = Dataset.from_dict({"audio": files, "caption": TEXTS[:3]}).cast_column("audio", Audio(decode=False))
        assert_close(list(extractor(KeyDataset(data, "audio"), batch_size=2)), audio_embeds, 1e-5)
        assert_close(extractor(data["caption"], language=LANGUAGES[:3]), text_embeds[:3])

    def test_what_a_string_is(self, extractor, files, audio_embeds, model, processor, tmp_path, monkeypatch):
        assert names_sound("Dog.WAV") and names_sound("https://host/sound?id=1") and names_sound("song.m4a")
        assert not names_sound("a dog barks.") and not names_sound("wav") and not names_sound("The band plays mp3")
        monkeypatch.chdir(tmp_path)
        Path("rain").write_bytes(Path(files[0]).read_bytes())
        assert_close(extractor("rain"), encode_text(model, processor, ["rain"])[0])
        assert_close(extractor("rain", modality="audio"), audio_embeds[0])
        assert_close(extractor({"text": "dog.wav"}), encode_text(model, processor, ["dog.wav"])[0])
        with pytest.raises(ValueError, match=r"no audio file 'dog\.wav'"):
            extractor("dog.wav")

    def test_tensors_and_defaults_of_the_pipeline(self, extractor, model, processor, text_embeds):
        tensor = extractor(TEXTS[0], return_tensors="pt")
        assert isinstance(tensor, torch.Tensor) and tensor.shape == (12,)
        assert_close(tensor, text_embeds[0])
        french = pipeline(
            "audio-text-feature-extraction", model=model, processor=processor, language="fr", return_tensors=True
        )
        assert_close(french(TEXTS[1]), text_embeds[1])
        assert_close(french(TEXTS[0], language="en"), text_embeds[0])

    def test_a_model_in_training_is_put_into_evaluation(self, processor, text_embeds):
        training = tiny_model().train()
        assert not pipeline("audio-text-feature-extraction", model=training, processor=processor).model.training

    def test_half_precision_gives_float32(self, folder, clips):
        half = pipeline("audio-text-feature-extraction", model=folder, dtype=torch.bfloat16)
        assert half(clips[0]).dtype == np.float32

    def test_no_inputs(self, extractor):
        assert extractor([]) == []

    @pytest.mark.parametrize(
        "item, arguments, message",
        [
            ("a dog", {"language": "klingon"}, "Unknown language 'klingon'"),
            ("a dog", {"langauge": "fr"}, r"no arguments \['langauge'\]"),
            ("a dog", {"language": ["en", "fr"]}, "2 languages were given for a str"),
            (["a dog"], {"language": ["en", "fr"]}, "2 languages were given for 1 texts"),
            ("a dog", {"modality": "video"}, "'audio' or 'text', got 'video'"),
            ("a dog", {"return_tensors": "tf"}, "'np' or 'pt', got 'tf'"),
            (3, {}, "the clip is a int"),
            ({"text": "a", "audio": "a.wav"}, {}, "`audio` and `text`"),
            ({"text": "a"}, {"modality": "audio"}, "should have `audio`"),
            ({"array": [0.0] * 16000}, {}, "needs its `sampling_rate`"),
            ({"file": "a.wav"}, {}, r"this one has \['file'\]"),
            (np.zeros((16000, 2), np.float32), {}, r"shape \(16000, 2\)"),
            (np.zeros(16000, np.uint8), {}, "uint8"),
            (np.zeros(100, np.float32), {}, "too short"),
            (np.zeros(16000, np.float32), {"sampling_rate": 0}, "hertz, .*got 0"),
            ({"array": [0.0] * 16000, "sampling_rate": "16000"}, {}, "hertz, .*got '16000'"),
            (b"no sound", {}, "Cannot decode"),
        ],
    )
    def test_errors(self, extractor, item, arguments, message):
        with pytest.raises(ValueError, match=message):
            extractor(item, **arguments)

    def test_short_clips_are_padded_on_request(self, extractor, model, processor):
        short = np.full(1000, 0.1, np.float32)
        expected = encode_audio(model, processor, [short], sampling_rate=16000, pad_short=True)
        assert_close(extractor(short, pad_short=True), expected[0])


class TestRetrieval:
    def test_texts_search_audios(self, retriever, files, audio_embeds, text_embeds):
        found = retriever(TEXTS, audios=files, language=LANGUAGES, batch_size=3, top_k=2)
        for results, query in zip(found, text_embeds, strict=True):
            scores = audio_embeds @ query
            order = np.argsort(-scores)[:2].tolist()
            assert [result["index"] for result in results] == order
            assert [result["audio"] for result in results] == [files[index] for index in order]
            assert_close([result["score"] for result in results], scores[order], 1e-5)

    def test_audios_search_texts(self, retriever, files, audio_embeds, text_embeds):
        results = retriever(files[1], texts=TEXTS, language=LANGUAGES)
        scores = text_embeds @ audio_embeds[1]
        assert [result["text"] for result in results] == [TEXTS[index] for index in np.argsort(-scores)]
        assert_close([result["score"] for result in results], np.sort(scores)[::-1], 1e-5)

    def test_an_archive_is_encoded_once(self, retriever, model, processor, files, audio_embeds, tmp_path):
        archive = retriever.encode_audio(files, batch_size=2)
        assert (archive.shape, archive.dtype) == ((3, 12), np.float32)
        assert_close(archive, audio_embeds, 1e-5)
        assert_close(retriever.encode_text(TEXTS, LANGUAGES), encode_text(model, processor, TEXTS, LANGUAGES), 1e-5)
        expected = retriever("un chien", audios=files, language="fr")
        np.save(tmp_path / "archive.npy", archive)
        mapped = np.load(tmp_path / "archive.npy", mmap_mode="r")
        for given in (archive, torch.from_numpy(archive), mapped, archive.astype(np.float64)):
            results = retriever("un chien", audios=given, language="fr")
            assert [set(result) for result in results] == [{"index", "score"}] * 3
            assert [result["index"] for result in results] == [result["index"] for result in expected]
            assert_close([result["score"] for result in results], [result["score"] for result in expected])
        queries = retriever.encode_text(["un chien"], "fr")
        assert retriever(queries, audios=archive) == [retriever("un chien", audios=archive, language="fr")]

    def test_streams(self, retriever, files, text_embeds):
        data = Dataset.from_dict({"audio": files}).cast_column("audio", Audio(decode=False))
        from_list = retriever(TEXTS[:2], audios=files)
        from_data = retriever((text for text in TEXTS[:2]), audios=KeyDataset(data, "audio"))
        assert not isinstance(from_data, list)
        for expected, results in zip(from_list, from_data, strict=True):
            assert [item["index"] for item in results] == [item["index"] for item in expected]

    def test_blocks_and_ties(self, retriever, monkeypatch):
        """Against a full sort of every row, in blocks of a few queries; equal candidates come in their order."""
        generator = np.random.default_rng(1)
        candidates = generator.standard_normal((40, 12)).astype(np.float32)
        candidates[[7, 3, 30]] = candidates[20]
        queries = generator.standard_normal((11, 12)).astype(np.float32)
        queries[4] = candidates[20]
        monkeypatch.setattr("modeling_atri.top_k_atri._BLOCK_SCORES", 100)
        monkeypatch.setattr("modeling_atri.top_k_atri._ROWS_AT_ONCE", 16)
        for top_k in (1, 3, 40, 1000):
            found = retriever(queries, audios=candidates, top_k=top_k)
            for query, results in zip(queries, found, strict=True):
                order = np.argsort(-(candidates @ query), kind="stable")[:top_k]
                assert [result["index"] for result in results] == order.tolist()
        assert [result["index"] for result in retriever(queries[4:5], audios=candidates, top_k=2)[0]] == [3, 7]

    def test_top_k_of_the_pipeline(self, model, processor, files):
        retriever = pipeline("audio-text-retrieval", model=model, processor=processor, top_k=1)
        assert len(retriever("a dog", audios=files)) == 1
        assert len(retriever("a dog", audios=files, top_k=2)) == 2

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({}, "either `audios`"),
            ({"audios": [], "texts": []}, "either `audios`"),
            ({"audios": []}, "`audios` is empty"),
            ({"texts": "a dog"}, "`texts` is a single one"),
            ({"audios": np.zeros((4, 11), np.float32)}, r"shape \(n, 12\)"),
            ({"audios": np.zeros((0, 12), np.float32)}, "n at least 1"),
            ({"audios": np.full((4, 12), np.nan, np.float32)}, "NaN"),
            ({"audios": np.zeros((4, 12), np.float32), "top_k": 0}, "`top_k`"),
            ({"audios": np.zeros((4, 12), np.float32), "language": "klingon"}, "Unknown language"),
            ({"audios": np.zeros((4, 12), np.float32), "k": 3}, r"no arguments \['k'\]"),
            ({"audios": ["nowhere.wav"]}, "no audio file"),
        ],
    )
    def test_errors(self, retriever, arguments, message):
        with pytest.raises(ValueError, match=message):
            retriever("a dog barks", **arguments)


class TestZeroShot:
    LABELS = ("dog", "rain", "siren", "rooster")

    def test_transformers_own_pipeline_works(self, folder, clips, model, processor):
        stock = pipeline("zero-shot-audio-classification", model=folder)
        assert type(stock) is ZeroShotAudioClassificationPipeline
        results = stock(clips[0], candidate_labels=list(self.LABELS))
        inputs = processor(
            text=[f"This is a sound of {label}." for label in self.LABELS],
            language="en",
            audio=clips[0],
            sampling_rate=16000,
        )
        with torch.no_grad():
            scores = model(**inputs).logits_per_audio[0].softmax(dim=0).tolist()
        assert {item["label"]: pytest.approx(item["score"], abs=1e-6) for item in results} == dict(
            zip(self.LABELS, scores, strict=True)
        )

    @pytest.mark.parametrize("batch_size", [1, 2])
    def test_ours_equals_it_in_english(self, folder, classifier, clips, batch_size):
        stock = pipeline("zero-shot-audio-classification", model=folder)
        expected = stock(clips, candidate_labels=list(self.LABELS), batch_size=batch_size)
        results = classifier(clips, candidate_labels=self.LABELS, batch_size=batch_size)
        assert isinstance(classifier, ZeroShotAudioClassificationPipeline)
        assert [[item["label"] for item in row] for row in results] == [[i["label"] for i in row] for row in expected]
        assert_close(
            [[item["score"] for item in row] for row in results], [[item["score"] for item in row] for row in expected]
        )

    def test_every_label_in_its_language(self, classifier, model, processor, files, audio_embeds):
        labels, languages = ["dog", "chien", "Hund", "犬"], ["en", "French", "deu", "jpn_Jpan"]
        sentences = [
            "This is a sound of dog.",
            "C'est un son de chien.",
            "Das ist ein Geräusch von Hund.",
            "これは犬の音です。",
        ]
        embeddings = encode_text(model, processor, sentences, languages)
        logits = model.logit_scale.exp().item() * (embeddings @ audio_embeds[0])
        scores = np.exp(logits) / np.exp(logits).sum()
        results = classifier(files[0], candidate_labels=labels, language=languages)
        assert [item["label"] for item in results] == [labels[index] for index in np.argsort(-scores)]
        assert_close([item["score"] for item in results], np.sort(scores)[::-1], 1e-5)

    def test_templates(self, classifier, files):
        assert tuple(HYPOTHESIS_TEMPLATES) == ATRI_LANGUAGES
        assert len(set(HYPOTHESIS_TEMPLATES.values())) == 8
        assert all(template.count("{}") == 1 for template in HYPOTHESIS_TEMPLATES.values())

        def scores(labels, **arguments):
            return {i["label"]: i["score"] for i in classifier(files[0], candidate_labels=labels, **arguments)}

        by_default = scores(["chien", "pluie"], language="fr")
        assert scores(["chien", "pluie"], language="fr", hypothesis_template="C'est un son de {}.") == by_default
        labels = ["C'est un son de chien.", "C'est un son de pluie."]
        sentences = scores(labels, language="fr", hypothesis_template="{}")
        assert list(sentences.values()) == list(by_default.values())
        assert scores(["chien", "pluie"], language="fr", hypothesis_template="{}") != by_default

    def test_defaults_of_the_pipeline_and_streams(self, model, processor, classifier, files):
        dutch = AtriZeroShotAudioClassificationPipeline(
            model, processor, candidate_labels=["hond", "regen"], language="nl", top_k=1, device="cpu"
        )
        expected = classifier(files, candidate_labels=["hond", "regen"], language="nl", top_k=1)
        assert [len(row) for row in expected] == [1, 1, 1]
        for (result,), (best,) in zip(dutch(file for file in files), expected, strict=True):
            assert result == {"score": pytest.approx(best["score"], abs=1e-6), "label": best["label"]}
        assert dutch([]) == []

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"candidate_labels": []}, r"at least one label, got \[\]"),
            ({"candidate_labels": "dog"}, "got 'dog'"),
            ({}, "got None"),
            ({"candidate_labels": ["dog", 3]}, "3 is not"),
            ({"candidate_labels": ["dog"], "language": "elvish"}, "Unknown language 'elvish'"),
            ({"candidate_labels": ["cane"], "language": "it"}, r"Italian \(ita_Latn\), only in eng_Latn"),
            ({"candidate_labels": ["dog"], "language": ["en", "fr"]}, "2 languages were given for 1 labels"),
            ({"candidate_labels": ["dog"], "hypothesis_template": "a sound"}, r"must have \{\}.*got 'a sound'"),
            ({"candidate_labels": ["dog"], "top_k": 0}, "`top_k`"),
            ({"candidate_labels": ["dog"], "top": 1}, r"no arguments \['top'\]"),
        ],
    )
    def test_errors(self, classifier, clips, arguments, message):
        with pytest.raises(ValueError, match=message):
            classifier(clips[0], **arguments)


class TestReading:
    def test_urls(self, files, monkeypatch):
        content = Path(files[0]).read_bytes()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200 if self.path == "/dog.wav" else 404)
                self.end_headers()
                self.wfile.write(content if self.path == "/dog.wav" else b"")

            def log_message(self, *arguments):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            np.testing.assert_array_equal(load_audio(f"{url}/dog.wav", 16000), load_audio(files[0]))
            with pytest.raises(ValueError, match=r"Cannot fetch .*cat\.wav: .*404"):
                load_audio(f"{url}/cat.wav", 16000)
        finally:
            server.shutdown()
            server.server_close()
        with pytest.raises(ValueError, match=r"Cannot fetch .*dog\.wav"):
            load_audio(f"{url}/dog.wav", 16000)


class TestSaving:
    FILES = {
        *("pipelines_atri.py", "pipeline_base_atri.py", "audio_inputs_atri.py", "sound_files_atri.py"),
        *("top_k_atri.py", "languages_atri.py"),
    }

    def test_the_configuration_names_what_is_registered(self, folder, model):
        for info in model.config.to_dict()["custom_pipelines"].values():
            info.clear()  # transformers, too, changes the dict of a pipeline that it loads
        saved = json.loads((Path(folder) / "config.json").read_text())["custom_pipelines"]
        assert saved == CUSTOM_PIPELINES
        for task in ("audio-text-feature-extraction", "audio-text-retrieval"):
            registered = PIPELINE_REGISTRY.supported_tasks[task]
            assert registered["pt"] == (AutoModel,) and registered["type"] == "multimodal"
            assert saved[task]["impl"] == f"pipelines_atri.{registered['impl'].__name__}"
        own = saved["zero-shot-audio-classification"]["impl"]
        assert own == f"pipelines_atri.{AtriZeroShotAudioClassificationPipeline.__name__}"

    def test_every_way_of_saving_leaves_the_pipelines(self, model, extractor, retriever, classifier, folder, tmp_path):
        arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to=[])
        Trainer(model, arguments).save_model(str(tmp_path / "trainer"))
        pipes = {"extractor": extractor, "retriever": retriever, "classifier": classifier}
        for name, pipe in pipes.items():
            pipe.save_pretrained(tmp_path / name)
            assert {path.name for path in (tmp_path / name).iterdir()} == set(os.listdir(folder)), name
        AutoModel.from_pretrained(folder).save_pretrained(tmp_path / "again")
        for name in ("trainer", *pipes, "again"):
            assert set(os.listdir(tmp_path / name)) >= self.FILES, name
            config = json.loads((tmp_path / name / "config.json").read_text())
            assert config["custom_pipelines"] == CUSTOM_PIPELINES, name

    def test_pipelines_of_others_in_a_configuration_are_kept(self, model, tmp_path):
        mine = {"custom_pipelines": {"mine": {"impl": "a.B"}}}
        config = type(model.config).from_dict(model.config.to_dict() | mine)
        config.save_pretrained(tmp_path)
        saved = json.loads((tmp_path / "config.json").read_text())["custom_pipelines"]
        assert saved == {"mine": {"impl": "a.B"}, **CUSTOM_PIPELINES}
        assert type(config).from_pretrained(tmp_path).custom_pipelines == {"mine": {"impl": "a.B"}}


WITHOUT_PACKAGE = """
import importlib.abc, json, os, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("modeling_atri", "datasets", "tests"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())

import numpy as np
from transformers import pipeline
"""

REMOTE_PROGRAM = """
folder, output, files = sys.argv[1], sys.argv[2], sys.argv[3:]
retriever = pipeline("audio-text-retrieval", model=folder, trust_remote_code=True)
retriever.model.save_pretrained(f"{output}/again")
retriever.processor.save_pretrained(f"{output}/again")
retriever.save_pretrained(f"{output}/pipe")

found = []
for source in (folder, f"{output}/again", f"{output}/pipe"):
    load = {"model": source, "trust_remote_code": True}
    retriever = pipeline("audio-text-retrieval", **load)
    extractor = pipeline("audio-text-feature-extraction", **load)
    classifier = pipeline("zero-shot-audio-classification", **load)
    found.append({
        "files": sorted(os.listdir(source)),
        "retrieved": retriever(["a dog", "un chien"], audios=files, language=["en", "fr"]),
        "embeddings": np.stack(extractor(files, batch_size=2)).tolist(),
        "labels": classifier(files, candidate_labels=["chien", "pluie"], language="fr"),
    })

try:
    pipeline("audio-text-retrieval", model=folder)
except ValueError as error:
    assert "trust_remote_code" in str(error)
else:
    raise AssertionError("code of the folder ran unasked")

waveform = np.linspace(-0.5, 0.5, 16000, dtype=np.float32)
sys.modules["soundfile"] = None
try:
    extractor(files[0])
except ImportError as error:
    assert "pip install soundfile soxr" in str(error)
else:
    raise AssertionError("read without soundfile")
found.append(extractor(waveform).tolist())
json.dump(found, open(f"{output}/found.json", "w"))
"""


def run_program(program: str, *arguments: str, home: Path, environment: dict[str, str] | None = None) -> None:
    environment = environment or {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=home,
        env=environment | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]


@pytest.mark.heavy
def test_a_process_without_the_package(folder, files, extractor, retriever, classifier, tmp_path):
    """What the folder brings along is enough, gives the same numbers, and saves itself again in full."""
    run_program(WITHOUT_PACKAGE + REMOTE_PROGRAM, folder, str(tmp_path), *files, home=tmp_path)
    *rounds, of_waveform = json.loads((tmp_path / "found.json").read_text())
    retrieved = retriever(["a dog", "un chien"], audios=files, language=["en", "fr"])
    labels = classifier(files, candidate_labels=["chien", "pluie"], language="fr")

    def without_scores(results):
        return [[{k: v for k, v in item.items() if k != "score"} for item in row] for row in results]

    def scores(results):
        return [[item["score"] for item in row] for row in results]

    for found in rounds:
        assert found["files"] == sorted(os.listdir(folder))
        assert_close(found["embeddings"], np.stack(extractor(files)), 1e-6)
        for ours, theirs in ((retrieved, found["retrieved"]), (labels, found["labels"])):
            assert without_scores(theirs) == without_scores(ours)
            assert_close(scores(theirs), scores(ours), 1e-6)
    assert_close(of_waveform, extractor(np.linspace(-0.5, 0.5, 16000, dtype=np.float32)), 1e-6)


HUB_PROGRAM = """
pipes = {
    task: pipeline(task, model="tester/sounds", trust_remote_code=True)
    for task in ("audio-text-retrieval", "zero-shot-audio-classification")
}
waveform = np.linspace(-0.5, 0.5, 16000, dtype=np.float32)
found = {
    "retrieved": pipes["audio-text-retrieval"](waveform, texts=["chien", "pluie"], language="fr"),
    "labels": pipes["zero-shot-audio-classification"](waveform, candidate_labels=["chien", "pluie"], language="fr"),
}
json.dump(found, open(sys.argv[1], "w"))
"""


@pytest.mark.slow
def test_the_hub_finds_them(model, processor, retriever, classifier, tmp_path, monkeypatch):
    """A pipeline is pushed to a Hub on loopback, and used from there by a process without the package."""
    with LocalHub() as hub:
        hub.connect(monkeypatch)
        pipeline("audio-text-retrieval", model=model, processor=processor).push_to_hub("tester/sounds")
        output = tmp_path / "found.json"
        environment = hub.client_environment(tmp_path)
        run_program(WITHOUT_PACKAGE + HUB_PROGRAM, str(output), home=tmp_path, environment=environment)
    found = json.loads(output.read_text())
    waveform = np.linspace(-0.5, 0.5, 16000, dtype=np.float32)
    retrieved = retriever(waveform, texts=["chien", "pluie"], language="fr")
    labels = classifier(waveform, candidate_labels=["chien", "pluie"], language="fr")
    assert [item["text"] for item in found["retrieved"]] == [item["text"] for item in retrieved]
    assert_close([item["score"] for item in found["retrieved"]], [item["score"] for item in retrieved])
    assert [item["label"] for item in found["labels"]] == [item["label"] for item in labels]
    assert_close([item["score"] for item in found["labels"]], [item["score"] for item in labels])


def clap_parts() -> dict[str, Any]:
    """A tiny model of another family that has the same task."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = ClapConfig(
        text_config={**sizes, "vocab_size": 12, "projection_dim": 32},
        audio_config={
            "patch_embeds_hidden_size": 16,
            "hidden_size": 128,
            "depths": [1] * 4,
            "num_attention_heads": [1, 1, 2, 2],
            "num_hidden_layers": 4,
            "spec_size": 256,
            "projection_dim": 32,
        },
        projection_dim=32,
    )
    words = ["[PAD]", "[UNK]", "This", "is", "a", "sound", "of", "dog", "rain", "."]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return {
        "model": ClapModel(config).eval(),
        "tokenizer": PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"),
        "feature_extractor": ClapFeatureExtractor(truncation="rand_trunc"),
    }


def test_other_models_keep_transformers_own_pipeline():
    """A tiny CLAP gets transformers' own class and its figures, and no task of transformers is replaced."""
    tasks = PIPELINE_REGISTRY.supported_tasks  # of transformers' own some are classes and some the names of classes
    ours = {task for task, entry in tasks.items() if "atri" in str(entry["impl"]).lower()}
    assert ours == {"audio-text-feature-extraction", "audio-text-retrieval"}
    parts, waveform = clap_parts(), np.sin(np.arange(96_000) / 7).astype(np.float32)
    pipe = pipeline("zero-shot-audio-classification", **parts)
    assert type(pipe) is ZeroShotAudioClassificationPipeline
    np.random.seed(0)  # CLAP cuts a clip out at random
    found = pipe(waveform, candidate_labels=["dog", "rain"])
    np.random.seed(0)
    audio = parts["feature_extractor"](waveform, sampling_rate=48_000, return_tensors="pt")
    text = parts["tokenizer"](["This is a sound of dog.", "This is a sound of rain."], return_tensors="pt")
    with torch.no_grad():
        scores = parts["model"](**audio, **text).logits_per_audio[0].softmax(dim=-1)
    assert {item["label"]: item["score"] for item in found} == pytest.approx(
        {"dog": scores[0].item(), "rain": scores[1].item()}, abs=1e-6
    )


# Threads


def test_threads_share_pipelines_of_a_model_in_training_mode(clips):
    model, processor = tiny_model(patch_dropout=0.5, hidden_dropout=0.5), tiny_processor()
    features = AtriAudioTextFeatureExtractionPipeline(model, processor)
    zero_shot = AtriZeroShotAudioClassificationPipeline(model, processor, candidate_labels=["dog", "rain"])
    for module in model.text_model.modules():
        if hasattr(module, "dropout"):
            module.dropout = 0.5
    model.train()
    jobs = [
        lambda: np.stack(features(TEXTS, modality="text", language="fr", batch_size=3)),
        lambda: np.stack(features(TEXTS, modality="text", language=LANGUAGES, batch_size=8)),
        lambda: np.stack(features(clips[:2], sampling_rate=16000)),
        lambda: np.array([[hit["score"] for hit in zero_shot(clips[0], language=name)] for name in ("de", "ja")]),
    ]
    expected = [job() for job in jobs]

    def run(number: int) -> bool:
        return bool(np.allclose(jobs[number % 4](), expected[number % 4], atol=1e-5))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(run, range(48)))
    assert all(module.training for module in model.modules())


def test_labels_in_a_language_outside_flores(clips):
    processor = AtriProcessor(AtriFeatureExtractor(), train_tokenizer(["ki", "glav", "dog"] * 2, ["en", "br"], 400))
    pipe = AtriZeroShotAudioClassificationPipeline(tiny_model(), processor)
    with pytest.raises(ValueError, match=r"no sentence for labels in Breton \(bre_Latn\)"):
        pipe(clips[0], ["ki", "glav"], language="br")
    hits = pipe(clips[0], ["ki", "glav"], language="Breton", hypothesis_template="{}")
    assert {hit["label"] for hit in hits} == {"ki", "glav"}
    assert hits != pipe(clips[0], ["ki", "glav"], language="en", hypothesis_template="{}")
