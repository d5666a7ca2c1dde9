"""Every option of transformers works or is refused with a sentence: a table of all, and runs of those that work."""

from dataclasses import fields, replace

import pytest
import torch
from transformers import EarlyStoppingCallback, TrainingArguments
from transformers.training_args import OptimizerNames

from modeling_atri import AtriModel
from modeling_atri.trainer import AtriDataCollator, AtriTrainer
from modeling_atri.trainer.checks.options import REFUSED_OPTIONS, check_trackers
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.training import assert_same_weights, losses, make_arguments, make_rows, make_trainer


# A value that is refused, for each refused option.
REFUSED = {
    "remove_unused_columns": True,
    "label_smoothing_factor": 0.1,
    "train_sampling_strategy": "group_by_length",
    "length_column_name": "seconds",
    "bf16_full_eval": True,
    "fp16_full_eval": True,
    "prediction_loss_only": True,
    "eval_do_concat_batches": False,
    "eval_use_gather_object": True,
    "eval_accumulation_steps": 1,
    "include_for_metrics": ["inputs"],
    "batch_eval_metrics": True,
    "label_names": ["item_ids"],
    "use_liger_kernel": True,
    "liger_kernel_config": {"rope": True},
    "use_cache": True,
    "include_num_input_tokens_seen": "non_padding",
    "logging_nan_inf_filter": True,
    "debug": "underflow_overflow",
    "enable_jit_checkpoint": True,
    "ddp_static_graph": True,
    "optim_target_modules": ["attn"],
}

# Refused by other checks, which have tests of their own: test_engines.py.
ENGINES = {"fsdp", "fsdp_config", "deepspeed", "parallelism_config"}

# All that is left works. Those in RUNS and OPTIMIZERS below are run here; the others are by their test or nature:
WORKS = {
    "test_trainer.py, test_arguments.py": (
        *("output_dir", "per_device_train_batch_size", "num_train_epochs", "max_steps", "learning_rate"),
        *("weight_decay", "gradient_accumulation_steps", "max_grad_norm", "bf16", "fp16", "tf32", "seed", "data_seed"),
        *("dataloader_drop_last", "dataloader_num_workers", "per_device_eval_batch_size", "use_cpu", "disable_tqdm"),
        *("lr_scheduler_type", "metric_for_best_model", "greater_is_better", "logging_steps", "report_to"),
        *("eval_strategy", "eval_steps", "optim"),
    ),
    "test_checkpoints.py, test_pushing.py": (
        *("save_strategy", "save_steps", "save_total_limit", "save_only_model", "load_best_model_at_end"),
        *("resume_from_checkpoint", "push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy"),
        *("hub_always_push", "hub_revision"),
    ),
    "test_distributed.py, test_cached.py, test_engines.py": (
        *("ddp_find_unused_parameters", "ddp_backend", "ddp_timeout", "accelerator_config", "local_rank"),
        *("torch_compile", "torch_compile_backend", "torch_compile_mode"),
        *("gradient_checkpointing", "gradient_checkpointing_kwargs"),  # old names of activation_checkpointing
    ),
    "of the optimizers and trackers, or read by scripts alone": (
        *("adam_beta1", "adam_beta2", "adam_epsilon", "run_name", "project", "trackio_space_id"),
        *("trackio_bucket_id", "trackio_static_space_id", "do_train", "do_eval", "do_predict"),
    ),
    "of distributed training, and passed on by transformers": (
        *("ddp_bucket_cap_mb", "ddp_broadcast_buffers", "save_on_each_node", "log_on_each_node", "log_level_replica"),
    ),
}

# Options that change nothing about the weights of a run, with their fields.
SAME = {
    "evaluation": {"eval_on_start": True, "eval_strategy": "steps", "eval_steps": 1, "eval_delay": 2},
    "logs": {"logging_first_step": True, "logging_strategy": "epoch", "log_level": "error"},
    "loading": {
        **{"dataloader_persistent_workers": True, "dataloader_prefetch_factor": 1, "dataloader_in_order": True},
        **{"dataloader_multiprocessing_context": "fork", "dataloader_num_workers": 1, "dataloader_pin_memory": False},
    },
    "memory": {"torch_empty_cache_steps": 1, "average_tokens_across_devices": False},
    "measured memory": {"skip_memory_metrics": False},
    "checkpointing": {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"every_n_layers": 2}},
    "reentrant": {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": True}},
    "determinism": {"full_determinism": True},
}
OTHER = {
    "noise": {"neftune_noise_alpha": 5.0},
    "warmup": {"warmup_steps": 2, "lr_scheduler_type": "constant_with_warmup"},
    "scheduler": {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-3}},
    "optimizer": {"optim_args": "momentum=0.9"},
}
ALONE = {"ignore_data_skip", "restore_callback_states_from_checkpoint", "auto_find_batch_size"}  # with a test each


def test_every_option_of_transformers_is_in_the_table():
    """A new version of transformers may add options. Decide whether they work, and test it."""
    assert REFUSED.keys() == REFUSED_OPTIONS.keys()
    run = {name for options in (*SAME.values(), *OTHER.values()) for name in options}
    working = run | ALONE | {name for names in WORKS.values() for name in names}
    assert not working & REFUSED.keys()
    assert working | REFUSED.keys() | ENGINES == {field.name for field in fields(TrainingArguments)}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_options(tmp_path, name):
    with pytest.raises(ValueError, match=rf"`{name}` must be .*, because .*; got ") as raised:
        make_arguments(tmp_path, **{name: REFUSED[name]})
    assert "\n" not in str(raised.value)
    default = TrainingArguments.__dataclass_fields__[name].default
    if name not in ("remove_unused_columns", "logging_nan_inf_filter", "include_for_metrics"):
        assert default in REFUSED_OPTIONS[name][0], "the default of transformers is allowed"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient_accumulation_steps": 0}, "`gradient_accumulation_steps` must be at least 1; got 0"),
        ({"per_device_eval_batch_size": 0}, "`per_device_eval_batch_size` must be at least 1; got 0"),
        ({"dataloader_num_workers": -1}, "`dataloader_num_workers` must be at least 0; got -1"),
        ({"weight_decay": -0.1}, "`weight_decay` must be at least 0; got -0.1"),
        ({"num_train_epochs": 0}, "`num_train_epochs` 0 and `max_steps` -1 train nothing"),
        ({"max_steps": 0}, "and `max_steps` 0 train nothing. Give a positive number"),
        ({"save_strategy": "steps", "save_steps": 0}, "`save_steps` must be above 0; got 0. To save nothing"),
        ({"activation_checkpointing_kwargs": {"use_reentrant": False}}, "belongs to `activation_checkpointing`"),
        (
            {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"offload": True}},
            "`offload` of `activation_checkpointing_kwargs` moves states to the CPU: it needs a GPU",
        ),
        *(
            ({"optim": name.value}, f"`optim` '{name.value}' is not supported, because it makes its own groups")
            for name in OptimizerNames
            if name.value.startswith(("galore", "apollo", "lomo", "adalomo"))
        ),
    ],
)
def test_values_that_fail_late_or_do_nothing_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make_arguments(tmp_path, **options)


def test_arguments_can_be_made_again_from_themselves(tmp_path):
    args = make_arguments(tmp_path, **SAME["evaluation"], activation_checkpointing=True)
    assert replace(args) == args
    assert type(args)(**args.to_dict() | {"hub_token": None}).to_dict() == args.to_dict()


# Optimizer and scheduler


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optim": "schedule_free_adamw"}, "cannot be made .* need to install `schedulefree`"),
        ({"optim": "adamw_torch", "adam_beta1": 2.0}, "Invalid beta parameter at index 0: 2.0. Otherwise change them"),
        ({"optim": "sgd", "optim_args": "foo=1"}, "'sgd' takes none of the `optim_args` 'foo=1'"),
        ({"optim": "adamw_torch", "optim_args": "foo=1"}, "'adamw_torch' takes none of the `optim_args` 'foo=1'"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "'warmup_stable_decay' cannot be made .* 'num_decay_steps'"),
        ({"lr_scheduler_kwargs": {"foo": 1}, "lr_scheduler_type": "cosine"}, "unexpected keyword argument 'foo'"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_an_optimizer_that_cannot_be_made_is_refused_before_anything_is_read(tmp_path, monkeypatch, options, message):
    monkeypatch.setattr("transformers.trainer_optimizer.is_schedulefree_available", lambda: False)
    monkeypatch.setattr("modeling_atri.trainer.trainer.checked_rows", None)
    with pytest.raises(ValueError, match=message):
        make_trainer(make_arguments(tmp_path, **options), make_rows(4))


def weights_after(tmp_path, folder: str = "run", **options) -> AtriTrainer:
    trainer = make_trainer(make_arguments(tmp_path / folder, **options), make_rows(8), make_rows(4, seed=3))
    trainer.train()
    return trainer


@pytest.mark.heavy
@pytest.mark.parametrize("optim", ["adafactor", "adamw_torch_fused", "adagrad", "rmsprop", "adamw_bnb_8bit"])
def test_optimizers(tmp_path, optim):
    """The weights move, at the learning rate of their part."""
    if "bnb" in optim:
        pytest.importorskip("bitsandbytes")
    before, trainer = tiny_model(), weights_after(tmp_path, optim=optim, text_learning_rate=0.0, learning_rate=1e-3)
    for name, weight in trainer.model.named_parameters():
        if name.startswith("text_model."):
            assert torch.equal(weight, before.get_parameter(name))
    assert not torch.equal(trainer.model.audio_projection.fc1.weight, before.audio_projection.fc1.weight)


# Options that work


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> tuple[AtriModel, list[float]]:
    trainer = weights_after(tmp_path_factory.mktemp("plain"))
    return trainer.model, losses(trainer)


@pytest.fixture
def reset_determinism():
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.heavy
@pytest.mark.parametrize("options", SAME)
def test_options_that_leave_the_weights_as_they_are(tmp_path, plain, options, reset_determinism, monkeypatch):
    cleared = []
    monkeypatch.setattr("modeling_atri.trainer.trainer.clear_device_cache", lambda: cleared.append(1))
    trainer = weights_after(tmp_path, **SAME[options])
    assert_same_weights(trainer.model, plain[0])
    history = trainer.state.log_history
    if options == "evaluation":
        steps = [entry["step"] for entry in history if "eval_mrv" in entry]
        assert steps == [0, 2], "before the first step, and after the delay"
    elif options == "loading":
        loader = trainer.get_train_dataloader()
        assert loader.multiprocessing_context.get_start_method() == "fork"
        assert (loader.in_order, loader.prefetch_factor, loader.persistent_workers) == (True, 1, True)
        trainer.args.dataloader_in_order = False
        assert not trainer.get_train_dataloader().in_order
    elif options == "memory":
        assert len(cleared) == 2, "at every step"
    elif options == "measured memory":
        assert "train_mem_cpu_alloc_delta" in history[-1]
    elif options == "logs":
        assert [entry["step"] for entry in history if "loss" in entry] == [1, 2]


@pytest.mark.heavy
@pytest.mark.parametrize("options", OTHER)
def test_options_that_change_the_weights(tmp_path, plain, options):
    trainer = weights_after(tmp_path, **OTHER[options])
    with pytest.raises(AssertionError):
        assert_same_weights(trainer.model, plain[0])
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    if options == "warmup":
        assert rates == [0.0, 0.025]
    elif options == "scheduler":
        assert rates == pytest.approx([0.05, (0.05 + 1e-3) / 2])


@pytest.mark.heavy
def test_a_batch_that_does_not_fit_is_halved(tmp_path):
    """The run is then the one of the smaller batch."""
    trainer = make_trainer(make_arguments(tmp_path / "a", auto_find_batch_size=True), make_rows(8))
    step = trainer.training_step

    def full(model, inputs, num_items_in_batch=None):
        if len(inputs["input_features"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(model, inputs, num_items_in_batch)

    trainer.training_step = full
    trainer.train()
    expected = weights_after(tmp_path, per_device_train_batch_size=2)
    assert losses(trainer) == losses(expected)
    assert_same_weights(trainer.model, expected.model)
    assert trainer.training_facts()["batch_size"] == 2


@pytest.mark.heavy
def test_options_of_a_resumed_run(tmp_path):
    """Patience goes on where it was, and with `ignore_data_skip` the epoch begins anew."""
    options = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "epoch", "learning_rate": 0.0}
    options |= {"load_best_model_at_end": True, "num_train_epochs": 2, "per_device_train_batch_size": 4}
    options |= {"eval_strategy": "steps", "eval_steps": 1}
    args = make_arguments(tmp_path, **options)
    trainer = make_trainer(args, make_rows(8), make_rows(4, seed=3), callbacks=[EarlyStoppingCallback(9)])
    trainer.train()
    first = losses(trainer)
    args = make_arguments(tmp_path, **options, ignore_data_skip=True, restore_callback_states_from_checkpoint=True)
    trainer = make_trainer(args, make_rows(8), make_rows(4, seed=3), callbacks=[EarlyStoppingCallback(1)])
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    patience = next(one for one in trainer.callback_handler.callbacks if isinstance(one, EarlyStoppingCallback))
    assert patience.early_stopping_patience == 9
    assert losses(trainer)[1] == first[0], "the first batch of the epoch again"


# Arguments of Trainer


@pytest.mark.parametrize("name", ["compute_metrics", "compute_loss_func", "preprocess_logits_for_metrics"])
def test_refused_arguments_of_trainer(tmp_path, name):
    with pytest.raises(ValueError, match=f"AtriTrainer takes no `{name}`: "):
        make_trainer(make_arguments(tmp_path), make_rows(4), **{name: lambda *args: None})


@pytest.mark.heavy
def test_a_given_optimizer_trains_the_model(tmp_path, plain):
    model = tiny_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    trainer = make_trainer(make_arguments(tmp_path), make_rows(8), model=model, optimizers=(optimizer, None))
    trainer.train()
    assert_same_weights(trainer.model, plain[0])


@pytest.mark.parametrize("options", [{"lora_rank": 2}, {"text_learning_rate": 1e-3}], ids=str)
def test_options_without_effect_on_a_given_optimizer(tmp_path, options):
    model = tiny_model()
    optimizers = (torch.optim.SGD(model.parameters(), lr=0.05), None)
    with pytest.raises(
        ValueError, match="would have no effect on the parameters of an optimizer that was made before"
    ):
        make_trainer(make_arguments(tmp_path, **options), make_rows(4), model=model, optimizers=optimizers)


@pytest.mark.heavy
def test_a_collator_of_the_users_own(tmp_path, plain):
    collator = AtriDataCollator(tiny_processor(), make_arguments(tmp_path).language_draws)
    trainer = make_trainer(
        make_arguments(tmp_path), make_rows(8), make_rows(4, seed=3), data_collator=lambda rows: collator(rows)
    )
    trainer.train()
    assert_same_weights(trainer.model, plain[0])
    assert trainer.evaluate()
    assert trainer.training_facts()["data_seed"] == 42


def test_the_processor_by_its_name_in_trainer(tmp_path):
    args, processor = make_arguments(tmp_path), tiny_processor()
    assert AtriTrainer(tiny_model(), args, processing_class=processor).processor is processor
    assert AtriTrainer(tiny_model(), args, processor, processing_class=processor).processing_class is processor
    with pytest.raises(ValueError, match="two names of one argument"):
        AtriTrainer(tiny_model(), args, processor, processing_class=tiny_processor())
    with pytest.raises(ValueError, match="needs the `processor` of the model"):
        AtriTrainer(tiny_model(), args)


def test_arguments_of_another_kind(tmp_path):
    plain = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    with pytest.raises(ValueError, match="`args` must be AtriTrainingArguments, .* got a TrainingArguments"):
        AtriTrainer(tiny_model(), plain, tiny_processor())
    with pytest.raises(ValueError, match="got a NoneType"):
        AtriTrainer(tiny_model(), processor=tiny_processor())


# Trackers

TRACKERS = {
    **{"azure_ml": "azureml", "comet_ml": "comet", "flyte": "flytekit"},
    **dict.fromkeys(("mlflow", "neptune", "tensorboard", "trackio", "wandb", "codecarbon", "clearml", "dagshub")),
    **dict.fromkeys(("dvclive", "swanlab")),
}


def without_trackers(monkeypatch) -> None:
    from transformers.integrations import integration_utils

    for name, module in TRACKERS.items():
        for home in ("", ".integration_utils"):
            monkeypatch.setattr(f"transformers.integrations{home}.is_{module or name}_available", lambda: False)
    assert not integration_utils.get_available_reporting_integrations()


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed_is_one_sentence(tmp_path, monkeypatch, name):
    without_trackers(monkeypatch)
    for report_to in (name, [name]):
        with pytest.raises(
            ValueError, match=rf"`report_to` names '{name}', but .* Run `pip install .*` to 'none'\."
        ) as e:
            make_arguments(tmp_path, report_to=report_to)
        assert "\n" not in str(e.value)


def test_other_values_of_report_to(tmp_path, monkeypatch):
    without_trackers(monkeypatch)
    with pytest.raises(ValueError, match="must be 'none', 'all', or names among azure_ml, .*; got 'tensorbord'"):
        make_arguments(tmp_path, report_to="tensorbord")
    for nothing in ("none", ["none"], [], None, "all", ["all"]):  # nothing is installed
        assert make_arguments(tmp_path, report_to=nothing).report_to == []
    for home in ("", ".integration_utils"):
        monkeypatch.setattr(f"transformers.integrations{home}.is_wandb_available", lambda: True)
    for named in ("wandb", "all"):
        assert make_arguments(tmp_path, report_to=named).report_to == ["wandb"]
    check_trackers(["wandb"])
    with pytest.raises(ValueError, match="names 'mlflow'"):
        check_trackers(["wandb", "mlflow"])
