import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import pytest

from modeling_atri.corpora.rows.plain_rows import as_undecoded
from modeling_atri.encode.fingerprints import model_fingerprint
from modeling_atri.hub_cards import publish
from modeling_atri.hub_cards.results import RESULTS_NAME
from tests.helpers.local_hub import LocalHub
from tests.helpers.results import ON_THE_HUB, RESULTS
from tests.helpers.tiny import tiny_model, tiny_processor


mteb = pytest.importorskip("mteb", reason="needs the extra mteb")
pytestmark = pytest.mark.heavy

from mteb.mocks import ALL_MOCK_TASK_TEST_GRID, MOCK_TASK_TEST_GRID  # noqa: E402
from mteb.models.model_meta import ScoringFunction  # noqa: E402
from mteb.results.task_result import TaskError  # noqa: E402

from modeling_atri.mteb import AtriMtebEncoder, model_meta  # noqa: E402
from modeling_atri.mteb.installed import MODEL_REGISTRY, TASK_REGISTRY  # noqa: E402
from modeling_atri.mteb.metadata import _TASKS_OF_CORPORA  # noqa: E402


NAME = "tester/atri"


def save(folder: Path, results: dict = RESULTS) -> Path:
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    (folder / RESULTS_NAME).write_text(json.dumps(results))
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub with a model, whose weights were made from SONAR's and trained on a data set on the Hub."""
    with LocalHub() as hub:
        hub.connect(monkeypatch)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        publish(save(tmp_path / "first", ON_THE_HUB), NAME)
        yield hub


def check(meta) -> None:
    """What mteb's own tests ask of every model (tests/test_models/test_model_meta.py there)."""
    assert meta.name is not None
    assert meta.revision is not None
    assert meta.name != meta.adapted_from
    meta.get_training_datasets()
    assert meta.n_embedding_parameters is not None
    assert hash(meta) == hash(meta.model_copy(deep=True))
    described = json.loads(json.dumps(meta.to_dict()))
    described["loader"] = None
    assert type(meta).model_validate(described).name == meta.name


def test_facts_of_a_model_on_the_hub(hub):
    meta = model_meta(NAME, contacts=["somebody"])
    check(meta)
    assert not any(request.endswith("model.safetensors") for request in hub.requests if request.startswith("GET"))
    assert meta == meta.model_copy(deep=True)
    model = tiny_model()
    found = {
        "name": NAME,
        "revision": hub.repos[f"models/{NAME}"].branches["main"][-1].sha,
        "languages": ["eng-Latn", "jpn-Jpan", "fra-Latn"],
        "n_parameters": model.num_parameters(),
        "n_embedding_parameters": model.text_model.get_input_embeddings().weight.numel(),
        "memory_usage_mb": round(4 * model.num_parameters() / 2**20),
        "max_tokens": 512,
        "embed_dim": 12,
        "license": "cc-by-nc-4.0",
        "open_weights": True,
        "public_training_data": "https://huggingface.co/datasets/tester/clips",
        "training_datasets": set(),
        "framework": ["PyTorch", "Transformers", "safetensors"],
        "reference": f"https://huggingface.co/{NAME}",
        "similarity_fn_name": ScoringFunction.COSINE,
        "use_instructions": False,
        "adapted_from": None,  # from two models
        "modalities": ["audio", "text"],
        "contacts": ["somebody"],
    }
    assert {name: getattr(meta, name) for name in found} == found
    assert meta.citation.startswith("@inproceedings{yin2025atri,")
    assert meta.openness["open weights"]
    assert meta.openness["open training data"]
    assert f"name='{NAME}'" in meta.to_python()
    assert "loader=load_atri" in meta.to_python()


def test_a_model_on_the_hub_is_loaded_by_name_and_only_if_needed(hub, monkeypatch, tmp_path):
    meta = model_meta(NAME)
    monkeypatch.setitem(MODEL_REGISTRY, NAME, meta)
    assert mteb.get_model_meta(NAME, meta.revision) is meta
    model = mteb.get_model(NAME, meta.revision, device="cpu", language="fr")
    assert model.language == "fra_Latn"
    assert model.mteb_model_meta.revision == meta.revision
    assert model.mteb_model_meta.experiment_kwargs == {"language": "fr"}

    task = next(task for task in MOCK_TASK_TEST_GRID if task.metadata.name == "MockMultilingualSTSTask")
    cache = mteb.ResultCache(tmp_path / "results")
    options = {"cache": cache, "show_progress_bar": False, "co2_tracker": False}
    first = mteb.evaluate(model_meta(NAME), task, **options)
    monkeypatch.setattr("modeling_atri.mteb.encoder.AtriMtebEncoder.encode", None)
    again = mteb.evaluate(model_meta(NAME), task, **options)
    assert again[0].get_score() == pytest.approx(first[0].get_score(), abs=1e-5), "the cache rounds"


def test_facts_of_a_folder(tmp_path):
    folder = save(tmp_path / "first")
    meta = model_meta(folder)
    check(meta)
    encoder = AtriMtebEncoder.from_pretrained(folder, device="cpu")
    assert (meta.name, meta.revision) == ("local/first", model_fingerprint(encoder.model, encoder.processor))
    assert "yin2025atri" in meta.citation
    assert str(tmp_path) not in json.dumps(meta.to_dict())
    assert meta.training_datasets is None, "a folder called train can be anything"
    loaded = meta.load_model(device="cpu")
    assert isinstance(loaded, AtriMtebEncoder)
    assert model_fingerprint(loaded.model, loaded.processor) == meta.revision


@pytest.mark.parametrize(
    "data, tasks, address",
    [
        ({"train": "audiocaps_train"}, {"AudioCapsA2TRetrieval", "AudioCapsT2ARetrieval"}, None),
        (
            {"train_hub_id": ["me/Clotho-fr", "me/more"]},
            {"ClothoA2TRetrieval", "ClothoT2ARetrieval"},
            "https://huggingface.co/datasets/me/Clotho-fr, https://huggingface.co/datasets/me/more",
        ),
        ({"train": "ESC-10 scenes"}, {"ESC50", "ESC50_Zeroshot"}, None),
        ({"train_hub_id": "me/sounds"}, set(), "https://huggingface.co/datasets/me/sounds"),
        ({"train": "train"}, None, None),
        ({}, None, None),
    ],
)
def test_training_data(tmp_path, data, tasks, address):
    meta = model_meta(save(tmp_path / "first", RESULTS | {"data": data}))
    assert (meta.training_datasets, meta.public_training_data) == (tasks, address)
    if tasks:
        assert tasks <= meta.get_training_datasets()
        assert meta.is_zero_shot_on(sorted(tasks)) is False


def test_the_tasks_of_corpora_are_in_mteb():
    assert set().union(*_TASKS_OF_CORPORA.values()) <= set(TASK_REGISTRY)


@pytest.mark.parametrize(
    "license, expected", [("MIT", "mit"), ("apache-2.0", "apache-2.0"), (None, None), ("own", None)]
)
def test_license(tmp_path, license, expected):
    model = {"num_parameters": 1, "license": license}
    assert model_meta(save(tmp_path / "first", RESULTS | {"model": model})).license == expected


def test_a_fact_that_mteb_does_not_take(tmp_path):
    folder = save(tmp_path / "first")
    with pytest.raises(ValueError, match="release_date"):
        model_meta(folder, release_date="yesterday")
    with pytest.raises(ValueError, match="no/such folder"):
        model_meta("no/such folder")


def encode_without_torchcodec(self: datasets.Audio, value: Any) -> dict[str, Any]:
    """In place of `datasets.Audio.encode_example`, which the mock tasks call to make their sounds."""
    return as_undecoded(value)


def mock_run(model: Any, tasks: Iterable[str] | None = None) -> Any:
    """mteb's own check of a new model, which its pull requests must show; with `tasks`, of these only."""
    if tasks is None:
        return mteb.mock_run(model)
    with pytest.MonkeyPatch.context() as patch:
        grid = [task for task in ALL_MOCK_TASK_TEST_GRID if task.metadata.name in tasks]
        patch.setattr("mteb.mocks.mock_run.ALL_MOCK_TASK_TEST_GRID", grid)
        return mteb.mock_run(model)


@pytest.mark.parametrize(
    "tasks",
    [
        ("MockMultilingualRetrievalTask", "MockAny2AnyRetrievalT2A", "MockAny2AnyRetrievalA2T"),
        pytest.param(None, marks=pytest.mark.slow, id="all"),
    ],
)
def test_mock_run(tmp_path, monkeypatch, tasks):
    monkeypatch.setattr(datasets.Audio, "encode_example", encode_without_torchcodec)
    model = model_meta(save(tmp_path / "first")).load_model(device="cpu")
    results = mock_run(model, tasks)
    ran = {name: status for name, status in results.items() if isinstance(status, mteb.TaskResult)}
    assert results.all_passed, results.to_markdown()
    failed = {name: status for name, status in results.items() if isinstance(status, TaskError)}
    assert not failed, results.to_markdown()
    assert len(ran) >= (36 if tasks is None else 3), results.to_markdown()
    for result in ran.values():
        for scores in result.scores.values():
            assert all(math.isfinite(of_subset["main_score"]) for of_subset in scores)
