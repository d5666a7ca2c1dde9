"""Every import that the README, the examples and the design have named keeps working after files are moved.

One old path is gone on purpose: `modeling_atri.encode_folder` (the file that an example imported) is the function of
that name since the package exports it. Use `from modeling_atri.encode import encode_folder`.
"""

import sys
from importlib import import_module

import pytest


NAMES_OF_MODULE = {
    "modeling_atri": (
        "AtriAudioConfig AtriAudioModel AtriConfig AtriFeatureExtractor AtriModel AtriOutput AtriPreTrainedModel "
        "AtriProcessor AtriAudioTextFeatureExtractionPipeline AtriAudioTextRetrievalPipeline "
        "AtriZeroShotAudioClassificationPipeline encode_audio encode_folder encode_text load_embeddings"
    ),
    "modeling_atri.audio_io": "load_audio",
    "modeling_atri.encode": "encode_audio encode_folder encode_text",
    "modeling_atri.embedding_store": "load_embeddings",
    "modeling_atri.languages_atri": "iso_code language_name resolve_language",
    "modeling_atri.loss_atri": "info_nce_loss",
    "modeling_atri.mteb": "AtriMtebEncoder AudioToTextRetrieval TextToAudioRetrieval model_meta retrieval_tasks",
    "modeling_atri.mteb_encoder": "AtriMtebEncoder",
    "modeling_atri.onnx": "OnnxAtriModel export_onnx",
    "modeling_atri.pretrained": (
        "from_audio_text_pretrained from_mlclap_checkpoint load_audio_tower load_text_tower make_processor"
    ),
    "modeling_atri.trainer": "AtriDataCollator AtriTrainer AtriTrainingArguments load_rows",
    "modeling_atri.trainer.losses": "akcl_loss cacl_loss kcl_loss mlclap_loss",
    "modeling_atri.trainer.metrics": "consistency_metrics retrieval_metric_path retrieval_metrics",
    "modeling_atri.trainer.diagnostics": "DiagnosticsCallback",
    "modeling_atri.trainer.evaluation": "RetrievalEmbeddings RetrievalSet embed_retrieval_set retrieval_table",
    "modeling_atri.trainer.scratch": "ScratchArguments caption_texts model_from_scratch train_tokenizer",
    "modeling_atri.corpora.rows": "load_rows",
    "modeling_atri.corpora.streams": "RowShards RowStream ShardReader StreamFacts open_stream open_streams",
    "modeling_atri.search": "Hit SoundIndex",
    "modeling_atri.hub_cards": "make_dataset_card make_model_card make_space_card publish results_table",
    "modeling_atri.hub_cards.publish": "collect_files publish",
    "modeling_atri.cli.main": "main",
}
PUBLIC_NAMES = [(module, name) for module, names in NAMES_OF_MODULE.items() for name in names.split()]


@pytest.mark.parametrize("module, name", PUBLIC_NAMES)
def test_a_public_name_is_the_object_of_its_home(module, name):
    value = getattr(import_module(module), name)
    home = value.__module__
    assert home.startswith("modeling_atri.")
    assert getattr(sys.modules[home], name) is value


def test_a_name_is_the_same_object_on_every_path():
    for name in {name for _, name in PUBLIC_NAMES}:
        values = {id(getattr(import_module(module), name)) for module, other in PUBLIC_NAMES if other == name}
        assert len(values) == 1, name


def test_all_of_a_package_lists_its_public_names():
    """Also the lazy ones, so that `dir`, editors and `import *` find them."""
    packages = {name: import_module(name) for name in NAMES_OF_MODULE if hasattr(import_module(name), "__path__")}
    assert len(packages) > 10
    for name, package in packages.items():
        assert set(NAMES_OF_MODULE[name].split()) <= set(package.__all__), name


@pytest.mark.parametrize("module", ["modeling_atri", "modeling_atri.encode", "modeling_atri.trainer"])
def test_an_unknown_name_is_an_attribute_error(module):
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'AtriMode'"):
        import_module(module).AtriMode  # noqa: B018
