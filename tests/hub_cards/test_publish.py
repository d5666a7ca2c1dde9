"""Pushes to a Hub over HTTP on loopback: what goes up, what stays, and what a failure leaves behind."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from huggingface_hub import HfApi, ModelCard, hf_hub_download
from huggingface_hub.errors import RepositoryNotFoundError
from safetensors.numpy import save

from modeling_atri import AtriModel
from modeling_atri.hub_cards import make_model_card, publish
from modeling_atri.hub_cards.cards.authorship import is_made_here, write_card
from modeling_atri.hub_cards.publish import collect_files
from modeling_atri.trainer.model.adapters import add_text_lora
from tests.helpers.local_hub import READER, STRANGER, WRITER, LocalHub
from tests.helpers.results import RESULTS
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.towerless import SOURCE, embedded_model, embedded_processor
from tests.helpers.toy_encoder import FILES, write_repository


pytestmark = pytest.mark.heavy


NAME = "tester/atri"
PUSHED = {
    "README.md",
    "atri_results.json",
    "config.json",
    "configuration_atri.py",
    "model.safetensors",
    "modeling_atri.py",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
}
# What a run leaves beside its model.
PRIVATE = [
    "checkpoint-2/model.safetensors",
    "checkpoint-2/optimizer.pt",
    "emissions.csv",
    "features/abc.npy",
    "optimizer.pt",
    "runs/events.out",
    "sounds/dog.wav",
    "trainer_state.json",
    "training_args.bin",
]


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "first"
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    (folder / "atri_results.json").write_text(json.dumps(RESULTS))
    for name in PRIVATE:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"secret")
    (folder / "emissions.csv").write_text("emissions,energy_consumed\n0.5,2.0\n")
    return folder


@pytest.fixture
def folder(saved_model, tmp_path) -> Path:
    """A copy to change."""
    return shutil.copytree(saved_model, tmp_path / "first")


@pytest.fixture
def hub(monkeypatch):
    with LocalHub() as hub:
        hub.connect(monkeypatch)
        yield hub


def sent(hub: LocalHub, start: str) -> int:
    return sum(request.startswith(start) for request in hub.requests)


def test_a_push_is_one_commit_of_what_belongs_to_the_model(hub, folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    done = publish(folder, NAME, commit_message="First")
    repo = hub.repos[f"models/{NAME}"]
    assert repo.messages() == ["initial commit", "First"]
    names = set(repo.files()) - {".gitattributes"}
    assert names >= PUSHED
    assert all(name in PUSHED or name.endswith("_atri.py") for name in names)
    assert names == set(done.files)
    assert all(repo.files()[name] == (folder / name).read_bytes() for name in names - {"README.md"})
    assert not any(b"secret" in content for content in repo.files().values())
    assert done.changed
    assert done.url == f"{hub.url}/{NAME}"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before, "the folder is only read"


def test_the_card_is_made_from_the_results_and_valid(hub, folder):
    publish(folder, NAME)
    card = ModelCard(hub.repos[f"models/{NAME}"].files()["README.md"].decode())
    card.validate()
    assert f'AtriModel.from_pretrained("{NAME}")' in card.text
    assert card.data.model_name == "atri"
    assert card.data["co2_eq_emissions"] == {"emissions": 500.0, "source": "codecarbon"}


def test_a_model_without_an_audio_tower_is_shown_with_stored_embeddings(tmp_path):
    """Also where there are no results, as after `save_pretrained`."""
    embedded_model().save_pretrained(tmp_path)
    embedded_processor().save_pretrained(tmp_path)
    card = collect_files(tmp_path, NAME)["README.md"].decode()
    assert f"embeddings of your sounds, made by {SOURCE}: (sounds, 12)" in card
    assert not any(text in card for text in ("encode_audio", ".wav", "zero-shot", "Long recordings"))


def test_the_code_of_a_tower_goes_up_with_it_and_other_code_stays(tmp_path):
    repository = write_repository(tmp_path / "toy")
    folder = tmp_path / "model"
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    for name in (*FILES, "helpers_toy", "private"):
        (folder / f"{name}.py").write_text("from .helpers_toy import x\n" if name == "modeling_toy" else "x = 1\n")
    config = json.loads((folder / "config.json").read_text())
    config["audio_config"] = json.loads((repository / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config))
    processor = json.loads((folder / "processor_config.json").read_text())
    processor["feature_extractor"] = json.loads((repository / "preprocessor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps(processor))
    files = collect_files(folder, NAME)
    card = files["README.md"].decode()
    assert f'AtriModel.from_pretrained("{NAME}", trust_remote_code=True)' in card
    assert f'AtriProcessor.from_pretrained("{NAME}", trust_remote_code=True)' in card
    assert "a part of its repository: loading it needs `trust_remote_code=True`." in card
    code = {name.removesuffix(".py") for name in files if name.endswith(".py")}
    assert {name for name in code if not name.endswith("_atri")} == {*FILES, "helpers_toy"}


def test_a_name_without_an_owner_is_in_the_account_of_the_token(hub, folder):
    publish(folder, "atri")
    assert f'AtriModel.from_pretrained("{NAME}")' in hub.repos[f"models/{NAME}"].files()["README.md"].decode()


def test_a_card_that_was_made_loads_from_the_repository(hub, folder):
    """Whatever the folder was called when it was made; also from one repository to the next."""
    for path in ("/home/me/runs/first", "tester/other"):
        write_card(make_model_card(RESULTS, path, title="My title"), folder)
        publish(folder, NAME)
        card = hub.repos[f"models/{NAME}"].files()["README.md"].decode()
        assert set(re.findall(r'(?:from_pretrained\(|model=|Transformer\()"([^"]+)"', card)) == {NAME}
        assert "\n# My title\n" in card
        assert is_made_here(card), "who trains on in a copy of the repository gets a new one"
    assert publish(folder, NAME).changed is False


def test_a_card_that_somebody_wrote_goes_up_as_it_is(hub, folder):
    text = (
        '# Mine\n\nmodel = AtriModel.from_pretrained("{0}")\nother = AtriModel.from_pretrained("tester/base")\n'
        'path = "{0}"\n'
    )
    for name in (folder.name, f"./{folder.parent.name}/{folder.name}", folder):
        (folder / "README.md").write_text(text.format(name))
        publish(folder, NAME)
        assert hub.repos[f"models/{NAME}"].files()["README.md"].decode() == text.format(NAME)


def test_results_on_data_of_the_hub_are_pushed_as_the_hub_collects_them(hub, folder):
    publish(folder, NAME, facts=RESULTS | {"data": {"eval_hub_id": "tester/scenes"}})
    assert ".eval_results/tester--scenes.yaml" in hub.repos[f"models/{NAME}"].files()


def test_a_second_push_sends_what_changed(hub, folder):
    publish(folder, NAME)
    uploads = sent(hub, "PUT /lfs")
    again = publish(folder, NAME)
    assert not again.changed
    assert len(hub.repos[f"models/{NAME}"].messages()) == 2
    (folder / "README.md").write_text("# Another card\n")
    assert publish(folder, NAME).changed
    commits = hub.repos[f"models/{NAME}"].branches["main"]
    assert commits[-1].touched == ["README.md"]
    assert sent(hub, "PUT /lfs") == uploads, "the weights go up once"


def test_weights_of_an_earlier_push_do_not_stay_beside_the_new_ones(hub, folder):
    sharded = folder.parent / "sharded"
    tiny_model(seed=1).save_pretrained(sharded, max_shard_size="20KB")
    tiny_processor().save_pretrained(sharded)
    publish(folder, NAME)
    HfApi().upload_file(path_or_fileobj=b"x", path_in_repo="demo.ogg", repo_id=NAME)
    publish(sharded, NAME)
    files = set(hub.repos[f"models/{NAME}"].files())
    assert "model.safetensors.index.json" in files
    assert "model.safetensors" not in files
    assert "atri_results.json" not in files, "they are of the weights before"
    assert "demo.ogg" in files, "what is of another make stays"
    publish(folder, NAME)
    files = set(hub.repos[f"models/{NAME}"].files())
    assert {name for name in files if name.startswith("model")} == {"model.safetensors", "modeling_atri.py"}


def test_a_branch_and_a_pull_request_leave_main_alone(hub, folder):
    publish(folder, NAME, revision="v2")
    done = publish(folder, NAME, create_pr=True)
    repo = hub.repos[f"models/{NAME}"]
    assert repo.messages() == ["initial commit"]
    assert "model.safetensors" in repo.files("v2")
    assert "model.safetensors" in repo.files("refs/pr/1")
    assert done.url.endswith("/discussions/1")


def test_a_private_repository_is_read_with_a_token_only(hub, folder, tmp_path):
    publish(folder, NAME, private=True)
    assert hub.repos[f"models/{NAME}"].private
    assert publish(folder, NAME).changed is False
    path = hf_hub_download(NAME, "config.json", token=READER, cache_dir=tmp_path / "cache")
    assert Path(path).read_bytes() == (folder / "config.json").read_bytes()
    for token in (False, STRANGER):
        with pytest.raises(RepositoryNotFoundError):
            hf_hub_download(NAME, "config.json", token=token, cache_dir=tmp_path / "other")


@pytest.mark.parametrize(
    "token, name, message",
    [
        (None, NAME, "Pushing needs an access token. Run `hf auth login`"),
        ("hf_wrong", NAME, "The Hub does not know the token (Invalid username or password.)"),
        (READER, NAME, "This token may not write to tester/atri"),
        (WRITER, "somebody/atri", "This token may not write to somebody/atri"),
        (WRITER, "a/b/c", "'a/b/c' is not a valid repository name"),
        (WRITER, "tester/é", "'tester/é' is not a valid repository name"),
    ],
)
def test_a_refusal_says_what_to_do_and_changes_nothing(hub, folder, monkeypatch, token, name, message):
    hub.connect(monkeypatch, token)
    with pytest.raises(ValueError) as error:
        publish(folder, name)
    assert message in str(error.value)
    assert hub.repos == {}


def test_a_bad_token_leaves_a_repository_as_it_is(hub, folder):
    publish(folder, NAME)
    (folder / "README.md").write_text("# Another card\n")
    for token in ("hf_wrong", READER, STRANGER):
        with pytest.raises(ValueError, match="token"):
            publish(folder, NAME, token=token)
    assert len(hub.repos[f"models/{NAME}"].messages()) == 2


def test_a_card_that_the_hub_refuses_stops_before_the_weights(hub, folder):
    (folder / "README.md").write_text("---\nlicense: my-own\n---\n# Mine\n")
    with pytest.raises(ValueError, match='"license" must be one of'):
        publish(folder, NAME)
    assert hub.repos[f"models/{NAME}"].messages() == ["initial commit"]
    assert hub.objects == {}


@pytest.mark.parametrize(
    "removed, message",
    [
        (["config.json"], "it lacks config.json, or adapter_config.json"),
        (["model.safetensors"], "it lacks model.safetensors, or adapter_model.safetensors"),
        (["processor_config.json", "tokenizer_config.json"], "it lacks processor_config.json; tokenizer_config.json"),
    ],
)
def test_an_incomplete_folder_is_not_pushed(hub, folder, removed, message):
    for name in removed:
        (folder / name).unlink()
    with pytest.raises(ValueError, match=message):
        publish(folder, NAME)
    assert hub.requests == []


def test_an_adapter_names_a_base_that_others_can_load(hub, folder):
    for name in ("config.json", "model.safetensors", "atri_results.json", "emissions.csv"):
        (folder / name).unlink()
    (folder / "adapter_model.safetensors").write_bytes(save({"a": np.zeros(1)}))
    config = {"peft_type": "LORA", "base_model_name_or_path": str(folder)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="made on a model that is not on the Hub.*as `base_model`"):
        publish(folder, NAME)
    assert hub.requests == []
    publish(folder, NAME, base_model="tester/base")
    files = hub.repos[f"models/{NAME}"].files()
    assert json.loads(files["adapter_config.json"]) == config | {"base_model_name_or_path": "tester/base"}
    assert json.loads((folder / "adapter_config.json").read_text()) == config
    card = ModelCard(files["README.md"].decode())
    assert (card.data.library_name, card.data.base_model) == ("peft", ["tester/base"])
    # A card that was made when the base was a folder could not name it.
    write_card(make_model_card({"model": {"adapter": {"rank": 4}}}, folder), folder)
    publish(folder, NAME, base_model="tester/base")
    card = ModelCard(hub.repos[f"models/{NAME}"].files()["README.md"].decode())
    assert card.data.base_model == ["tester/base"]


def test_no_folder_and_spoiled_results(folder):
    with pytest.raises(ValueError, match="There is no folder '/no/such'"):
        collect_files("/no/such", NAME)
    (folder / "atri_results.json").write_text("[1]")
    with pytest.raises(ValueError, match="must hold a mapping"):
        collect_files(folder, NAME)
    (folder / "atri_results.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        collect_files(folder, NAME)


def test_offline_mode_is_named(folder):
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE"):
        publish(folder, NAME, token=WRITER)


@pytest.mark.parametrize(
    "request_start", ["PUT /lfs", f"POST /api/models/{NAME}/commit", f"POST /{NAME}.git/info/lfs", "POST /api/repos"]
)
def test_a_connection_that_breaks_once_is_made_good(hub, folder, request_start):
    hub.cut(request_start)
    assert publish(folder, NAME).changed
    assert hub.repos[f"models/{NAME}"].messages() == ["initial commit", "Upload model"]


@pytest.mark.parametrize("request_start", ["PUT /lfs", f"POST /api/models/{NAME}/commit"])
def test_a_connection_that_stays_broken_leaves_nothing_half_written(hub, folder, request_start):
    hub.cut(request_start, times=float("inf"))
    with pytest.raises(ConnectionError, match=f"broke while pushing to {NAME}.*Push again"):
        publish(folder, NAME)
    repo = hub.repos[f"models/{NAME}"]
    assert set(repo.files()) == {".gitattributes"}
    arrived = len(hub.objects)
    hub.cuts.clear()
    uploads = sent(hub, "PUT /lfs")
    assert publish(folder, NAME).changed
    assert repo.messages() == ["initial commit", "Upload model"]
    assert sent(hub, "PUT /lfs") - uploads == 1 - arrived, "what arrived is not sent twice"


def test_a_repository_that_is_deleted_while_it_is_pushed_to(hub, folder, monkeypatch):
    publish(folder, NAME)
    (folder / "README.md").write_text("# Another card\n")
    asked = HfApi.model_info

    def ask_and_delete(*args, **kwargs):
        answer = asked(*args, **kwargs)
        hub.repos.clear()
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(HfApi, "model_info", ask_and_delete)
        with pytest.raises(ValueError, match=f"There is no {NAME}, or no such revision of it, to write to"):
            publish(folder, NAME)
    assert publish(folder, NAME).changed
    assert "model.safetensors" in hub.repos[f"models/{NAME}"].files()


def test_a_commit_whose_answer_is_lost_is_not_made_twice(hub, folder):
    hub.cut(f"POST /api/models/{NAME}/commit", after=True)
    assert publish(folder, NAME).changed
    assert hub.repos[f"models/{NAME}"].messages() == ["initial commit", "Upload model"]


def test_the_stock_pushes_of_model_and_processor_work(hub):
    tiny_model().push_to_hub(NAME)
    tiny_processor().push_to_hub(NAME)
    files = set(hub.repos[f"models/{NAME}"].files())
    assert files >= {"config.json", "model.safetensors", "modeling_atri.py", "processor_config.json", "tokenizer.json"}
    assert HfApi(endpoint=hub.url).model_info(NAME).sha == hub.repos[f"models/{NAME}"].branches["main"][-1].sha


FRESH_PROCESS = r"""
import re
import sys
from importlib.util import find_spec

import numpy as np

from modeling_atri.cli.main import main

folder, name, waveform, answer = sys.argv[1:]
assert main(["push", folder, name, "--private"]) == 0
assert main(["push", folder, name]) == 0

from huggingface_hub import hf_hub_download

card = open(hf_hub_download(name, "README.md"), encoding="utf-8").read()
with_package, without_package, with_sentence_transformers = re.findall("```python\n(.*?)```", card, re.DOTALL)
example = {}
exec(without_package, example)  # first, while our classes are not registered yet
print("found:", example["search"]("rain", audios=["a.wav", "b.flac"], top_k=1)[0]["audio"])
remote = example["model"], example["processor"]
assert type(remote[0]).__module__.startswith("transformers_modules.")

example = {}
exec(with_package, example)
assert example["scores"].shape == (3, 2), "captions in three languages, two sounds"
assert type(example["model"]).__module__ == "modeling_atri.modeling_atri"
if find_spec("sentence_transformers"):
    other = {}
    exec(with_sentence_transformers, other)
    np.testing.assert_allclose(other["scores"].numpy(), example["scores"][:1], atol=1e-5)

found = []
for model, processor in (remote, (example["model"], example["processor"])):
    captions = {"text": ["a dog barks", "un chien aboie"], "language": ["en", "fr"]}
    outputs = model.eval()(**processor(**captions, audio=[np.load(waveform)], sampling_rate=16000))
    found.append(outputs.logits_per_text.detach().numpy())
np.save(answer, np.stack(found))
try:
    example["AtriModel"].from_pretrained(name, token=False, force_download=True)
except OSError as error:
    print("without a token:", str(error).splitlines()[0])
"""


def test_pushed_by_the_command_line_and_loaded_by_name_in_a_fresh_process(saved_model, tmp_path):
    waveform = np.random.default_rng(0).normal(scale=0.1, size=16000).astype(np.float32)
    for name in ("a.wav", "b.flac"):  # what the examples of the card listen to
        soundfile.write(tmp_path / name, waveform, 16000)
    np.save(tmp_path / "waveform.npy", waveform)
    captions = {"text": ["a dog barks", "un chien aboie"], "language": ["en", "fr"]}
    inputs = tiny_processor()(**captions, audio=[waveform], sampling_rate=16000)
    expected = tiny_model()(**inputs).logits_per_text.detach().numpy()
    with LocalHub() as hub:
        argv = [str(saved_model), NAME, str(tmp_path / "waveform.npy"), str(tmp_path / "answer.npy")]
        done = subprocess.run(
            [sys.executable, "-c", FRESH_PROCESS, *argv],
            env=hub.client_environment(tmp_path / "home"),
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        url = f"{hub.url}/{NAME}"
        assert hub.repos[f"models/{NAME}"].private
    shown = done.stdout.splitlines()
    assert shown[0].startswith("Pushed ") and shown[0].endswith(f" files: {url}")
    assert shown[1] == f"Nothing has changed since the last push: {url}"
    assert shown[-2] in ("found: a.wav", "found: b.flac")
    assert shown[-1].startswith("without a token:")
    found = np.load(tmp_path / "answer.npy")
    np.testing.assert_allclose(found, np.stack([expected, expected]), rtol=0, atol=1e-6)


CODE_BLOCKS = r"""
import re
import sys

from huggingface_hub import hf_hub_download

card = open(hf_hub_download(sys.argv[1], "README.md"), encoding="utf-8").read()
with_package, without_package, with_sentence_transformers = re.findall("```python\n(.*?)```", card, re.DOTALL)
for block in (without_package, with_package, with_sentence_transformers):
    names = {}
    exec(block, names)
    print(type(names["model"]).__module__)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adapter", "converted"])
def test_the_code_in_other_cards_runs_too(saved_model, tmp_path, monkeypatch, kind):
    """Of an adapter, which loads its base by name, and of a model of which no language is known."""
    pytest.importorskip("peft", reason="adapters need the extra `peft`")
    pytest.importorskip("sentence_transformers", reason="one block needs the extra `sentence-transformers`")
    folder = tmp_path / kind
    for name in ("a.wav", "b.flac"):
        soundfile.write(tmp_path / name, np.random.default_rng(0).normal(scale=0.1, size=16000), 16000)
    tiny_processor().save_pretrained(folder)
    with LocalHub() as hub:
        with monkeypatch.context() as patch:
            hub.connect(patch)
            if kind == "adapter":
                publish(saved_model, "tester/base")
                model = AtriModel.from_pretrained(saved_model)
                add_text_lora(model, rank=2)
                model.save_pretrained(folder)
            else:
                tiny_model().save_pretrained(folder)
            facts = {"model": {"weights_from": ["ML-CLAP"]}} if kind == "converted" else None
            publish(folder, NAME, base_model="tester/base" if kind == "adapter" else None, facts=facts)
        done = subprocess.run(
            [sys.executable, "-c", CODE_BLOCKS, NAME],
            env=hub.client_environment(tmp_path / "home"),
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    remote, ours, _ = done.stdout.splitlines()
    assert remote.startswith("transformers_modules.")
    assert ours == "modeling_atri.modeling_atri"


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("atri_results.json", b'{"metrics": 3}', "No card can be made from .*atri_results.json"),
        ("atri_results.json", b'{"training": [1]}', "No card can be made from .*atri_results.json"),
        ("atri_results.json", b"[" * 100_000, "atri_results.json cannot be read as JSON"),
        ("README.md", b"\xff", "README.md is not a text in UTF-8"),
        ("config.json", b'{"model_type": ', r"/config\.json cannot be read as JSON: .*\. Save the model again"),
        ("config.json", b"[]", r"/config\.json cannot be read as JSON: it must hold an object, but holds a list"),
        ("processor_config.json", b"\xff", r"processor_config\.json cannot be read as JSON"),
        ("tokenizer.json", b"", r"tokenizer\.json cannot be read as JSON"),
        ("model.safetensors", b"version https://git-lfs", r"model\.safetensors cannot be read as weights"),
    ],
)
def test_a_damaged_file_is_named(folder, name, content, message):
    (folder / "README.md").unlink(missing_ok=True)
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        collect_files(folder, "me/model")
