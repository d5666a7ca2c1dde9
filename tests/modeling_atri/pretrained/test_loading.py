"""Models that cannot be loaded: the error says which, why, and what to do."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import errors
from huggingface_hub.utils import httpx

from modeling_atri import AtriModel
from modeling_atri.pretrained.loading import load_model
from tests.helpers.tiny import tiny_model, tiny_processor


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "quickstart"
    for part in (tiny_model(), tiny_processor()):
        part.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path, monkeypatch) -> Path:
    """A copy of the model, `quickstart` in the working directory."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(saved, tmp_path / "quickstart"))


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n"


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("config.json", None, "has no config.json. It holds audio_encoders_atri.py, "),
        ("config.json", b"{broken", "config.json cannot be read: Expecting property name"),
        ("config.json", b"", "config.json cannot be read: Expecting value"),
        ("config.json", b"\xff\xfe", "config.json cannot be read: 'utf-8' codec can't decode"),
        ("config.json", b"[" * 100_000, "config.json cannot be read: maximum recursion depth"),
        ("config.json", b"[1]", "is not of this package: the `model_type` in its config.json is None"),
        ("config.json", b'{"model_type": "bert"}', "`model_type` in its config.json is 'bert' instead of 'atri'"),
        ("config.json", {"projection_dim": "many"}, "cannot be loaded: StrictDataclassFieldValidationError: "),
        ("config.json", {"projection_dim": -3}, "cannot be loaded: `projection_dim` must be at least 1, got -3."),
        ("config.json", {"projection_dim": 77}, "cannot be loaded: RuntimeError: "),
        ("model.safetensors", None, "cannot be loaded: Error no file named model.safetensors"),
        ("model.safetensors", b"", "cannot be loaded: SafetensorError: Error while deserializing header"),
        ("model.safetensors", LFS_POINTER, "cannot be loaded: SafetensorError: Error while deserializing header"),
        ("model.safetensors", 0.5, "cannot be loaded: SafetensorError: Error while deserializing header"),
        ("tokenizer.json", None, "has no tokenizer: there is no sentencepiece.bpe.model or tokenizer.json."),
        ("tokenizer.json", b"{broken", "cannot be loaded: Expecting property name"),
        ("tokenizer.json", b"{}", "cannot be loaded: KeyError: 'added_tokens'."),
        ("processor_config.json", b"[]", "cannot be loaded: AttributeError: "),
    ],
)
def test_a_damaged_folder_is_named_with_its_fault(folder, name, content, message):
    path = folder / name
    if content is None:
        path.unlink()
    elif isinstance(content, dict):
        path.write_text(json.dumps(json.loads(path.read_text()) | content))
    elif isinstance(content, float):
        path.write_bytes(path.read_bytes()[: int(content * path.stat().st_size)])
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        load_model("quickstart")
    assert message in str(error.value) and "quickstart" in str(error.value)


def test_a_whole_folder_is_loaded(folder):
    model, processor = load_model("quickstart")
    assert model.config.model_type == "atri"
    assert processor.tokenizer.get_vocab() == tiny_processor().tokenizer.get_vocab()


def test_an_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="because it has no config.json. It is empty."):
        load_model(str(tmp_path))


@pytest.mark.parametrize("name", ["quickstrat", "./quickstrat", "quickstart/../quickstat/"])
def test_a_mistyped_folder_names_the_nearest(folder, name):
    with pytest.raises(ValueError, match=r"There is no folder .* Did you mean '.*quickstart'\?"):
        load_model(name)


def hub_error(kind: type[Exception]) -> Exception:
    response = httpx.Response(404, request=httpx.Request("GET", "https://huggingface.co/me/model"))
    return kind("Not found", response=response) if issubclass(kind, errors.HfHubHTTPError) else kind("Not reached")


@pytest.mark.parametrize(
    "cause, reason",
    [
        (errors.RepositoryNotFoundError, "the Hub does not have it, or it is private and you are not logged in"),
        (errors.GatedRepoError, "access to it must be requested on its page"),
        (errors.LocalEntryNotFoundError, "the Hub cannot be reached, and there is no copy in the cache"),
        (errors.OfflineModeIsEnabled, "the Hub cannot be reached"),
        (ValueError, "A long text. In two lines."),
    ],
)
def test_a_model_that_the_hub_does_not_give(cause, reason, folder, monkeypatch):
    def from_pretrained(name):
        raise OSError("A long text.\nIn two lines") from hub_error(cause)

    monkeypatch.setattr(AtriModel, "from_pretrained", from_pretrained)
    (folder.parent / "runs" / "first").mkdir(parents=True)
    with pytest.raises(ValueError) as error:
        load_model("runs/frist")
    assert str(error.value).startswith(f"There is no folder 'runs/frist', and no such model from the Hub: {reason}")
    assert str(error.value).endswith("Did you mean the folder 'runs/first'?")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [ImportError, MemoryError])
def test_a_model_that_is_right_but_cannot_be_used_here(folder, kind, monkeypatch):
    def from_pretrained(name):
        raise kind("not here")

    monkeypatch.setattr(AtriModel, "from_pretrained", from_pretrained)
    with pytest.raises(kind, match="not here"):
        load_model("quickstart")


@pytest.mark.heavy
def test_a_fresh_process_loads_a_saved_folder_without_asking(saved):
    # The classes of this package are registered only where its names are imported from the package.
    code = "import sys; from modeling_atri.pretrained.loading import load_model; load_model(sys.argv[1])"
    run = subprocess.run(
        [sys.executable, "-c", code, str(saved)], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
