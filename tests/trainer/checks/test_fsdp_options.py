"""Options of FSDP that are unknown, or that would make training wrong, end with one sentence."""

import json

import pytest

from modeling_atri.trainer.checks.engines import check_chosen_engine
from tests.helpers.training import make_arguments


OFFLOAD = "`cpu_offload` of FSDP is not supported, because the losses need the logit scale"
WRONG = [
    ({"version": 1}, "FSDP of version 1 is not supported, .*flattens the parameters"),
    ({"fsdp_version": "1"}, "FSDP of version 1 is not supported"),
    ({"version": 3}, "The `version` of FSDP must be 2; got 3."),
    ({"version": "two"}, "The `version` of FSDP must be 2; got 'two'."),
    ({"version": True}, "The `version` of FSDP must be 2; got True."),
    ({"cpu_ram_efficient_loading": True}, "`cpu_ram_efficient_loading` of FSDP .*, because it loses"),
    ({"cpu_offload": True}, OFFLOAD),
    ({"cpu_offload": "maybe"}, "`cpu_offload` of FSDP must be true or false; got 'maybe'."),
    ({"offload_params": True}, "`fsdp_config` has no option 'offload_params'. Its options are auto_wrap_policy, "),
    ({"activation_checkpointing": True}, "use the argument `activation_checkpointing` instead"),
    ({"activation_checkpointing_offload": True}, "`activation_checkpointing_offload` of FSDP is not supported"),
    ({"xla": True}, "`xla` of FSDP is not supported, because it is another engine"),
    (
        {"auto_wrap_policy": "EVERY_LAYER"},
        "must be TRANSFORMER_BASED_WRAP, SIZE_BASED_WRAP, NO_WRAP; got 'EVERY_LAYER'",
    ),
    ({"state_dict_type": "LOCAL_STATE_DICT"}, "must be FULL_STATE_DICT or SHARDED_STATE_DICT; got 'LOCAL_STATE_DICT'"),
    ({"min_num_params": "many"}, "`min_num_params` of FSDP must be a number of parameters, 0 or more; got 'many'."),
    ({"min_num_params": -1}, "0 or more; got -1"),
    (
        {"reshard_after_forward": "full_shard"},
        "`reshard_after_forward` of FSDP must be true or false; got 'full_shard'",
    ),
    ({"transformer_layer_cls_to_wrap": 3}, "must be a name of a class, or a list of names; got 3."),
    ({"ignored_modules": "text_model"}, "the gradients of modules that are not sharded would not be averaged"),
]


@pytest.mark.parametrize(("config", "message"), WRONG)
def test_wrong_options(tmp_path, config, message):
    file = tmp_path / "fsdp.json"
    file.write_text(json.dumps(config))
    for given in (config, str(file), json.dumps(config)):
        with pytest.raises(ValueError, match=message):
            make_arguments(tmp_path, fsdp=True, fsdp_config=given)


def test_options_that_cannot_be_read(tmp_path):
    missing, broken = tmp_path / "missing.json", tmp_path / "broken.json"
    broken.write_text("{version: 2}")
    for given, message in (
        (str(missing), "`fsdp_config` .*missing.json cannot be read: No such file or directory. Name a JSON file"),
        (str(tmp_path), "cannot be read: Is a directory"),
        (str(broken), "`fsdp_config` .*broken.json is not valid JSON: Expecting property name"),
        ("{version: 2}", "`fsdp_config` is not valid JSON"),
        ([2], r"`fsdp_config` must be a JSON object such as {'version': 2}; got \[2\]"),
    ):
        with pytest.raises(ValueError, match=message):
            make_arguments(tmp_path, fsdp=True, fsdp_config=given)


@pytest.mark.parametrize(
    ("fsdp", "message"),
    [
        ("offload", OFFLOAD),
        ("full_shard auto_wrap offload", OFFLOAD),
        (["full_shard", "offload"], OFFLOAD),
        ("hybrid_shard", "`fsdp` has no option 'hybrid_shard'. Use `fsdp=True` "),
        ("everything", "`fsdp` has no option 'everything'"),
    ],
)
def test_wrong_words_of_the_old_form(tmp_path, fsdp, message):
    with pytest.raises(ValueError, match=message):
        make_arguments(tmp_path, fsdp=fsdp)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "FSDP of version 1 is not supported"),
        ({"VERSION": "1"}, "FSDP of version 1 is not supported"),
        ({"VERSION": "3"}, "The `version` of FSDP must be 2; got '3'."),
        ({"VERSION": "2", "CPU_RAM_EFFICIENT_LOADING": "true"}, "`cpu_ram_efficient_loading` of FSDP"),
        ({"VERSION": "2", "OFFLOAD_PARAMS": "true"}, OFFLOAD),
        ({"VERSION": "2", "ACTIVATION_CHECKPOINTING": "true"}, "`activation_checkpointing` of FSDP"),
        ({"VERSION": "2", "RESHARD_AFTER_FORWARD": "FULL_SHARD"}, "`reshard_after_forward` of FSDP must be true"),
        ({"VERSION": "2", "AUTO_WRAP_POLICY": "ALL"}, "`auto_wrap_policy` of FSDP must be TRANSFORMER_BASED_WRAP"),
        ({"VERSION": "2", "STATE_DICT_TYPE": "LOCAL_STATE_DICT"}, "`state_dict_type` of FSDP must be FULL_STATE_DICT"),
        ({"VERSION": "2", "IGNORED_MODULES": "text.*"}, "`ignored_modules` of FSDP is not supported"),
    ],
)
def test_wrong_options_of_the_launcher(tmp_path, monkeypatch, variables, message):
    for name in ("VERSION", "CPU_RAM_EFFICIENT_LOADING"):
        monkeypatch.delenv(f"FSDP_{name}", raising=False)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    for name, value in variables.items():
        monkeypatch.setenv(f"FSDP_{name}", value)
    with pytest.raises(ValueError, match=message):
        make_arguments(tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"version": "2", "reshard_after_forward": "false", "state_dict_type": "sharded_state_dict"},
        {"fsdp_auto_wrap_policy": "SIZE_BASED_WRAP", "fsdp_min_num_params": "1000"},
        {"transformer_layer_cls_to_wrap": ["AtriAudioLayer"], "use_orig_params": True, "cpu_offload": False},
    ],
)
def test_options_that_are_right(tmp_path, config):
    args = make_arguments(tmp_path)
    args.fsdp, args.fsdp_config = True, config
    check_chosen_engine(args)
