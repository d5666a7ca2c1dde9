"""Engines that training would go wrong in are refused, with one sentence that says what to do."""

import pytest
from accelerate import Accelerator, DistributedType
from accelerate.parallelism_config import ParallelismConfig

from modeling_atri.trainer.checks.engines import check_engine
from tests.helpers.training import make_arguments, make_rows, make_trainer


SHARDED = "a step runs forward and backward several times. This does not work with {}. Use one process"


def test_data_parallel_is_refused():
    with pytest.raises(ValueError, match="DataParallel is not supported, .* process per GPU .*CUDA_VISIBLE_DEVICES=0"):
        check_engine(2, Accelerator(cpu=True))


@pytest.mark.parametrize(
    ("options", "engine"),
    [
        ({"deepspeed": {"zero_optimization": {"stage": 2}}}, "DeepSpeed"),  # before it is missed
        ({"parallelism_config": ParallelismConfig()}, "a ParallelismConfig"),
        ({"parallelism_config": ParallelismConfig(tp_size=2)}, "a ParallelismConfig"),
    ],
)
def test_engines_that_arguments_choose_are_refused(tmp_path, options, engine):
    with pytest.raises(ValueError, match=SHARDED.format(engine)):
        make_arguments(tmp_path, **options)


@pytest.mark.parametrize(
    ("variable", "engine"),
    [
        ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "a ParallelismConfig"),
    ],
)
def test_engines_that_the_launcher_chooses_are_refused(tmp_path, monkeypatch, variable, engine):
    monkeypatch.setenv(variable, "true")
    with pytest.raises(ValueError, match=SHARDED.format(engine)):
        make_arguments(tmp_path)
    monkeypatch.setenv(variable, "false")
    make_arguments(tmp_path)


def test_fsdp_in_a_process_alone_is_refused(tmp_path):
    for given in (True, "true", "full_shard auto_wrap"):
        with pytest.raises(ValueError, match="this process was started alone. Start them with torchrun or acc"):
            make_arguments(tmp_path, fsdp=given)
    for given in (None, False, "", "false"):
        assert not make_arguments(tmp_path, fsdp=given).fsdp


@pytest.mark.parametrize("objective", ["akcl", "cacl"])
@pytest.mark.parametrize("engine", [DistributedType.MEGATRON_LM, DistributedType.DEEPSPEED])
def test_engines_that_were_set_up_before_are_refused(tmp_path, monkeypatch, engine, objective):
    monkeypatch.setattr("accelerate.Accelerator.distributed_type", engine)
    with pytest.raises(ValueError, match=SHARDED.format(engine.value)):
        make_trainer(make_arguments(tmp_path, objective=objective), make_rows(4))


def test_a_model_sharded_before_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.Accelerator.parallelism_config", ParallelismConfig())
    with pytest.raises(ValueError, match=SHARDED.format("a ParallelismConfig")):
        make_trainer(make_arguments(tmp_path), make_rows(4))


@pytest.mark.parametrize("name", ["split_batches", "dispatch_batches"])
def test_batches_that_accelerate_would_cut_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"`{name}` of `accelerator_config` is not supported, because every process"):
        make_arguments(tmp_path, accelerator_config={name: True})
    make_arguments(tmp_path, accelerator_config={name: False, "even_batches": False})


def test_processes_that_would_train_alone_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")  # and no rank: what a hand-made start forgets
    with pytest.raises(ValueError, match="2 processes were started, but this one would train alone .*--use_cpu true"):
        make_arguments(tmp_path, use_cpu=False)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert make_arguments(tmp_path, use_cpu=False).world_size == 1


def test_precision_that_the_launcher_chooses_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    trainer = make_trainer(make_arguments(tmp_path), make_rows(4))
    assert trainer.accelerator.mixed_precision == trainer.training_facts()["precision"] == "bf16"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert make_trainer(make_arguments(tmp_path), make_rows(4)).training_facts()["precision"] == "fp32"
