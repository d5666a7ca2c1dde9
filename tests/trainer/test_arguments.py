import json
import math

import numpy as np
import pytest
from transformers import HfArgumentParser, TrainingArguments

from modeling_atri.hub_cards.figures import figure_names
from modeling_atri.languages_atri import ATRI_LANGUAGES, resolve_language
from modeling_atri.trainer import AtriTrainingArguments
from modeling_atri.trainer.data.augmentation import Augmentation
from modeling_atri.trainer.evaluation.retrieval import RetrievalEmbeddings, retrieval_table


def make(folder, **options) -> AtriTrainingArguments:
    return AtriTrainingArguments(output_dir=str(folder), use_cpu=True, report_to="none", **options)


def test_defaults_are_the_papers(tmp_path):
    args = make(tmp_path)
    assert (args.learning_rate, args.per_device_train_batch_size, args.num_train_epochs) == (5e-6, 24, 10.0)
    assert args.objective == "akcl"
    assert args.languages == list(ATRI_LANGUAGES)
    assert args.anchor_language == "eng_Latn"
    assert args.languages_per_step is None
    assert args.akcl_weight == 0.5
    assert args.exact_step
    assert args.caption_choice == "random"
    assert args.augmentation is None
    assert not (args.freeze_audio or args.freeze_text or args.embed_regularization)
    assert (args.audio_learning_rate, args.text_learning_rate, args.head_learning_rate) == (None, None, None)


def test_the_note_lists_every_changed_default(tmp_path):
    ours, theirs = make(tmp_path), TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    changed = {
        name for name in vars(theirs) if not name.startswith("_") and getattr(ours, name) != getattr(theirs, name)
    }
    own = {"logging_dir", "distributed_state", "deepspeed_plugin", "accelerator_config"}
    assert changed - own == {
        "learning_rate",
        "per_device_train_batch_size",
        "num_train_epochs",
        "remove_unused_columns",
        "logging_nan_inf_filter",
    }
    assert all(f"`{name}`" in AtriTrainingArguments.__doc__ for name in changed - own)


def test_lists_are_not_shared(tmp_path):
    make(tmp_path).languages.append("x")
    assert make(tmp_path).languages == list(ATRI_LANGUAGES)


def test_languages_by_any_name(tmp_path):
    args = make(tmp_path, languages=["en", "French", "ja", "zh"], anchor_language="fr")
    assert args.languages == ["eng_Latn", "fra_Latn", "jpn_Jpan", "zho_Hans"]
    assert args.anchor_language == "fra_Latn"


def test_augmentation(tmp_path):
    args = make(tmp_path, gain_db=3.0, time_masks=2, time_mask_frames=50, frequency_masks=1, frequency_mask_bins=4)
    assert args.augmentation == Augmentation(
        gain_db=3.0, time_masks=2, time_mask_frames=50, frequency_masks=1, frequency_mask_bins=4
    )
    assert make(tmp_path, frequency_masks=1).augmentation == Augmentation(frequency_masks=1)
    assert make(tmp_path, time_mask_frames=50).augmentation is None
    args = make(tmp_path, time_warp=0.2, mel_shift_bins=1.5, equalizer_db=4.0)
    assert args.augmentation == Augmentation(time_warp=0.2, mel_shift_bins=1.5, equalizer_db=4.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "clap"}, "`objective` must be 'kcl', 'akcl', 'cacl', 'mlclap' or 'teach'; got 'clap'"),
        ({"languages": []}, "`languages` must name each language once and at least one; got []"),
        ({"languages": ["en", "eng_Latn"]}, "must name each language once and at least one"),
        ({"languages": "en"}, "`languages` must be a list of languages; got 'en'"),
        ({"languages": ["en", "klingon"]}, "klingon"),
        ({"anchor_language": "it"}, "The anchor language ita_Latn is not among the languages"),
        ({"objective": "cacl", "anchor_language": "it"}, "choose another `anchor_language`"),
        ({"languages": ["en"]}, "akcl compares languages and needs at least two; got ['eng_Latn']"),
        ({"objective": "cacl", "languages": ["en"]}, "cacl compares languages and needs at least two"),
        ({"languages_per_step": 1}, "`languages_per_step` must be a whole number between 2 and the number of"),
        (
            {"objective": "kcl", "languages_per_step": 0},
            "languages (8) for kcl, or None; got 0",
        ),
        (
            {"objective": "kcl", "languages_per_step": 9},
            "languages (8) for kcl, or None; got 9",
        ),
        ({"objective": "cacl", "languages_per_step": 2}, "cacl draws two languages a clip by definition"),
        ({"objective": "mlclap", "languages_per_step": 1}, "mlclap draws one language a clip by definition"),
        ({"caption_choice": "last"}, "`caption_choice` must be 'random' or 'first'; got 'last'"),
        ({"remove_unused_columns": True}, "`remove_unused_columns` must be False"),
        ({"embed_regularization": True}, "`embed_regularization` belongs to mlclap; the objective is akcl"),
        ({"learning_rate": -1.0}, "`learning_rate` must be a finite number >= 0; got -1.0"),
        ({"audio_learning_rate": math.nan}, "`audio_learning_rate` must be a finite number >= 0, or None; got nan"),
        ({"text_learning_rate": math.inf}, "`text_learning_rate` must be a finite number >= 0, or None; got inf"),
        ({"head_learning_rate": -0.1}, "`head_learning_rate` must be a finite number >= 0, or None; got -0.1"),
        ({"ranking_weight": -1}, "`ranking_weight` must be a finite number >= 0; got -1"),
        ({"ranking_weight": 1, "objective": "cacl"}, "so it belongs to kcl and akcl; the objective is cacl"),
        ({"ranking_weight": 1, "objective": "kcl", "languages": ["fr"]}, "so a step needs two or more of them"),
        ({"ranking_weight": 1, "objective": "kcl", "languages_per_step": 1}, "so a step needs two or more of them"),
        ({"akcl_weight": 1.1}, "`akcl_weight` must be a number in [0, 1]; got 1.1"),
        ({"mix_probability": 1.5}, "`mix_probability` must be a number in [0, 1]; got 1.5"),
        ({"patch_dropout": 1.0}, "`patch_dropout` must be a number in [0, 1), or None; got 1.0"),
        ({"patch_dropout": -0.5}, "`patch_dropout` must be a number in [0, 1), or None; got -0.5"),
        ({"gain_db": math.nan}, "`gain_db` must be a finite number >= 0; got nan"),
        ({"gain_db": math.inf}, "`gain_db` must be a finite number >= 0; got inf"),
        ({"time_warp": -0.1}, "`time_warp` must be a finite number >= 0; got -0.1"),
        ({"mel_shift_bins": math.nan}, "`mel_shift_bins` must be a finite number >= 0; got nan"),
        ({"equalizer_db": -1.0}, "`equalizer_db` must be a finite number >= 0; got -1.0"),
        ({"audio_chunk_size": 0}, "`audio_chunk_size` must be a whole number >= 1, or None; got 0"),
        ({"text_chunk_size": 2.0}, "`text_chunk_size` must be a whole number >= 1, or None; got 2.0"),
        ({"text_chunk_size": True}, "`text_chunk_size` must be a whole number >= 1, or None; got True"),
        ({"time_masks": -1}, "`time_masks` must be a whole number >= 0; got -1"),
        ({"time_mask_frames": -1}, "`time_mask_frames` must be a whole number >= 0; got -1"),
        ({"frequency_masks": -1}, "`frequency_masks` must be a whole number >= 0; got -1"),
        ({"frequency_mask_bins": -1}, "`frequency_mask_bins` must be a whole number >= 0; got -1"),
        # wrong types
        ({"languages": None}, "`languages` must be a list of languages; got None"),
        (
            {"languages_per_step": 2.5},
            "languages (8) for akcl, or None; got 2.5",
        ),
        (
            {"languages_per_step": "3"},
            "languages (8) for akcl, or None; got '3'",
        ),
        ({"learning_rate": None}, "`learning_rate` must be a finite number >= 0; got None"),
        ({"learning_rate": [1e-3]}, "`learning_rate` must be a finite number >= 0; got [0.001]"),
        ({"head_learning_rate": "1e-3"}, "`head_learning_rate` must be a finite number >= 0, or None; got '1e-3'"),
        ({"akcl_weight": None}, "`akcl_weight` must be a number in [0, 1]; got None"),
        ({"mix_probability": True}, "`mix_probability` must be a number in [0, 1]; got True"),
        ({"patch_dropout": "0.1"}, "`patch_dropout` must be a number in [0, 1), or None; got '0.1'"),
        ({"gain_db": None}, "`gain_db` must be a finite number >= 0; got None"),
        ({"time_masks": 1.5}, "`time_masks` must be a whole number >= 0; got 1.5"),
        ({"time_mask_frames": math.inf}, "`time_mask_frames` must be a whole number >= 0; got inf"),
        ({"frequency_masks": True}, "`frequency_masks` must be a whole number >= 0; got True"),
        # what means nothing here
        (
            {"label_smoothing_factor": 0.1},
            "the ATRI objectives have no class labels; got 0.1",
        ),
    ],
)
def test_wrong_values(tmp_path, options, message):
    with pytest.raises(ValueError) as error:
        make(tmp_path, **options)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "kcl", "languages": ["fr"]},
        {"objective": "kcl", "languages": ["fr", "de"]},  # without an anchor among them
        {"objective": "kcl", "languages_per_step": 8},
        {"objective": "mlclap", "embed_regularization": True},
        {"akcl_weight": 0.0},
        {"akcl_weight": 1.0},
        {"patch_dropout": 0.0},
        {"learning_rate": 0.0},
        {"learning_rate": 1, "gain_db": np.float32(3.0), "time_masks": np.int64(2)},
    ],
)
def test_borders_are_allowed(tmp_path, options):
    args = make(tmp_path, **options)
    expected = options | {"languages": [resolve_language(code) for code in options.get("languages", ATRI_LANGUAGES)]}
    assert {name: getattr(args, name) for name in expected} == expected


# The best model


def test_figures_are_those_of_an_evaluation():
    embeddings = np.eye(3)
    for languages in (["eng_Latn", "fra_Latn"], ["eng_Latn"]):
        table = retrieval_table(RetrievalEmbeddings(embeddings, dict.fromkeys(languages, embeddings)), [[0], [1], [2]])
        assert sorted(figure_names(languages)) == sorted(table)


@pytest.mark.parametrize(
    "need",
    [
        {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"},
        {"save_strategy": "best", "eval_strategy": "epoch"},
        {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch"},
    ],
)
def test_the_best_model_is_that_of_the_highest_recall(tmp_path, need):
    args = make(tmp_path, **need)
    assert (args.metric_for_best_model, args.greater_is_better) == ("mean_text_to_audio_R@1", True)
    assert (make(tmp_path).metric_for_best_model, make(tmp_path).greater_is_better) == (None, None)


@pytest.mark.parametrize(
    ("metric", "greater"),
    [
        ("mean_audio_to_text_mAP@10", True),
        ("eval_jpn_Jpan_text_to_audio_R@10", True),
        ("eval_dev_jpn_Jpan_text_to_audio_R@5", True),
        ("mrv", False),
        ("eval_mrv", False),
        ("eval_dev_mrv", False),
        ("mean_rank_std", False),
        ("embedding_gap", False),
        ("embedding_distance", False),
        ("mean_text_to_audio_mean_rank", False),
        ("fra_Latn_audio_to_text_median_rank", False),
    ],
)
def test_which_way_is_better(tmp_path, metric, greater):
    options = {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"}
    args = make(tmp_path, metric_for_best_model=metric, **options)
    assert (args.metric_for_best_model, args.greater_is_better) == (metric, greater)
    # What the user says stands.
    args = make(tmp_path, metric_for_best_model=metric, greater_is_better=not greater, **options)
    assert args.greater_is_better is not greater


@pytest.mark.parametrize("scheduler", ["reduce_lr_on_plateau", "greedy"])
def test_schedulers_that_follow_a_figure_know_which_way_is_better(tmp_path, scheduler):
    options = {"lr_scheduler_type": scheduler, "eval_strategy": "epoch"}
    assert make(tmp_path, **options).lr_scheduler_kwargs == {"mode": "max"}
    assert make(tmp_path, metric_for_best_model="mrv", **options).lr_scheduler_kwargs == {"mode": "min"}
    given = make(tmp_path, lr_scheduler_kwargs={"mode": "min", "patience": 2}, **options)
    assert given.lr_scheduler_kwargs == {"mode": "min", "patience": 2}


@pytest.mark.parametrize(
    ("metric", "languages", "message"),
    [
        (
            "loss",
            ["en", "fr"],
            "in eng_Latn, fra_Latn. The figures are mean_text_to_",
        ),
        ("text_to_audio_R@1", ["en", "fr"], "Did you mean mean_text_to_audio_R@1 or"),
        ("eval_mean_text_to_audio_r@1", ["en", "fr"], "Did you mean mean_text_to_audio_R@1 or"),
        ("mrvs", ["en", "fr"], "Did you mean mrv?"),
        ("deu_Latn_text_to_audio_R@1", ["en", "fr"], "is not a figure of an evaluation in eng_Latn, fra_Latn."),
        ("mrv", ["en"], "'mrv' is not a figure of an evaluation in eng_Latn."),
        (3, ["en"], "`metric_for_best_model` 3 is not a figure"),
    ],
)
def test_metrics_that_no_evaluation_has(tmp_path, metric, languages, message):
    with pytest.raises(ValueError) as error:
        make(tmp_path, objective="kcl", languages=languages, metric_for_best_model=metric)
    assert message in str(error.value)


def test_options_of_the_command_line(tmp_path):
    words = [
        *("--output_dir", str(tmp_path), "--use_cpu", "--report_to", "none", "--objective", "cacl"),
        *("--languages", "en", "fr", "--anchor_language", "fr", "--freeze_text", "--head_learning_rate", "1e-3"),
        *("--group_column", "triple", "--patch_dropout", "0.5", "--gain_db", "3", "--exact_step", "false"),
    ]
    (args,) = HfArgumentParser(AtriTrainingArguments).parse_args_into_dataclasses(words)
    assert (args.objective, args.languages, args.anchor_language) == ("cacl", ["eng_Latn", "fra_Latn"], "fra_Latn")
    assert (args.freeze_text, args.freeze_audio, args.exact_step) == (True, False, False)
    assert (args.head_learning_rate, args.patch_dropout, args.gain_db) == (1e-3, 0.5, 3.0)
    assert args.group_column == "triple"


def test_every_option_explains_itself():
    own = AtriTrainingArguments.__annotations__
    assert all(AtriTrainingArguments.__dataclass_fields__[name].metadata.get("help") for name in own)


def test_written_as_json(tmp_path):
    stated = json.loads(make(tmp_path, objective="kcl", languages=["en", "fr"]).to_json_string())
    assert stated["objective"] == "kcl"
    assert stated["languages"] == ["eng_Latn", "fra_Latn"]


@pytest.mark.parametrize(
    ("capabilities", "warned"),
    [
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, True),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True}, False),
        ({"architecture": "aarch64"}, False),
    ],
)
def test_bf16_on_a_cpu_without_it_is_warned_of(tmp_path, monkeypatch, caplog, capabilities, warned):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
    AtriTrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    assert not caplog.records
    AtriTrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", bf16=True)
    assert ["no bf16 arithmetic" in record.message for record in caplog.records] == [True] * warned


def test_fp16_on_a_cpu_is_refused_because_it_has_no_effect(tmp_path):
    with pytest.raises(ValueError, match="`fp16` has no effect on a CPU"):
        AtriTrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", fp16=True)
