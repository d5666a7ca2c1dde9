"""The wheel holds the whole package: built, installed beside nothing else of ours, and used from another folder."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


pytestmark = pytest.mark.heavy


# Folder of the checkout -> package that it is installed as.
PACKAGES = {
    "modeling_atri": "modeling_atri",
    "trainer": "modeling_atri.trainer",
    "hub_cards": "modeling_atri.hub_cards",
    "corpora": "modeling_atri.corpora",
    "search": "modeling_atri.search",
    "cli": "modeling_atri.cli",
}

CHECK_PUBLIC_NAMES = """
import importlib, json, logging, pathlib, pkgutil, socket, sys
logging.getLogger("matplotlib.font_manager").setLevel("ERROR")  # on a new machine it warns that it lists the fonts
site = pathlib.Path(sys.argv[1])
def refuse(*arguments): raise AssertionError("a connection is opened at import")
socket.socket.connect = refuse
import modeling_atri
assert pathlib.Path(modeling_atri.__file__).is_relative_to(site), modeling_atri.__file__
names = []
for info in [None, *pkgutil.walk_packages(modeling_atri.__path__, "modeling_atri.")]:
    module = importlib.import_module("modeling_atri" if info is None else info.name)
    assert pathlib.Path(module.__file__).is_relative_to(site), module.__file__
    for name in getattr(module, "__all__", ()):
        getattr(module, name)
        names.append(f"{module.__name__}.{name}")
print(json.dumps(names))
"""

CHECK_DATA_FILES = """
import importlib.resources, json, sys
for package, name in json.loads(sys.argv[1]):
    content = importlib.resources.files(package).joinpath(name).read_bytes()
    assert content or name == "py.typed", (package, name)  # the marker of PEP 561 is empty
"""


def run(*command: str | Path, **arguments) -> subprocess.CompletedProcess:
    result = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=240, check=False, **arguments
    )
    assert result.returncode == 0, f"{command} failed:\n{result.stdout}\n{result.stderr}"
    return result


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, repository_root: Path) -> Path:
    """Built from a copy: setuptools would leave its `build` folder in the checkout, and take old files from it."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repository_root / folder, source / folder, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md"):
        if (repository_root / name).exists():
            shutil.copy(repository_root / name, source)
    run(sys.executable, "-m", "pip", "wheel", source, "--no-deps", "--no-build-isolation", "--wheel-dir", output)
    (file,) = output.glob("modeling_atri-*.whl")
    return file


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The installed wheel alone; dependencies are those of the running interpreter."""
    folder = tmp_path_factory.mktemp("site")
    run(sys.executable, "-m", "pip", "install", wheel, "--no-deps", "--no-index", "--target", folder)
    return folder


def run_installed(site: Path, folder: Path, program: str, argument: str) -> subprocess.CompletedProcess:
    return run(sys.executable, "-c", program, argument, cwd=folder, env=os.environ | {"PYTHONPATH": str(site)})


def installed_files(repository_root: Path) -> dict[str, tuple[str, str]]:
    """Name inside the wheel -> (package, name inside the package), of every file in the source folders."""
    files = {}
    for folder, package in PACKAGES.items():
        for path in (repository_root / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                name = path.relative_to(repository_root / folder).as_posix()
                files[f"{package.replace('.', '/')}/{name}"] = (package, name)
    return files


def test_the_wheel_holds_every_file_and_nothing_else(wheel, repository_root):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == set(installed_files(repository_root))


def test_the_wheel_says_what_it_is(wheel, repository_root):
    version = run(sys.executable, "-c", "import modeling_atri; print(modeling_atri.__version__)").stdout.strip()
    with zipfile.ZipFile(wheel) as archive:
        (metadata_name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(metadata_name).decode()
        entry_points = archive.read(metadata_name.replace("METADATA", "entry_points.txt")).decode()
        assert metadata_name.replace("METADATA", "licenses/LICENSE") in archive.namelist()
    assert f"\nVersion: {version}\n" in metadata
    assert f"\nversion: {version}\n" in (repository_root / "CITATION.cff").read_text("utf-8")
    assert "atri = modeling_atri.cli.main:main" in entry_points
    assert "==" not in "".join(
        line for line in metadata.splitlines() if line.startswith("Requires-Dist") and ";" not in line
    )


def test_every_public_name_is_importable_from_another_folder_in_silence(site, tmp_path):
    """Nothing may be printed by any module, and nobody may open a connection."""
    result = run_installed(site, tmp_path, CHECK_PUBLIC_NAMES, str(site))
    (line,) = result.stdout.splitlines()
    assert {"modeling_atri.AtriModel", "modeling_atri.trainer.AtriTrainer"} <= set(json.loads(line))
    # transformers loads torchao and bitsandbytes where they are installed, and both talk on a machine without a GPU.
    others = ("torchao", "torch/utils/_pytree.py", "kernels-community")
    assert [line for line in result.stderr.splitlines() if not any(name in line for name in others)] == []


def test_packaged_data_is_readable(site, tmp_path, repository_root):
    files = [file for name, file in installed_files(repository_root).items() if not name.endswith(".py")]
    files.append(("modeling_atri.trainer.evaluation", "retrieval_metric/retrieval_metric.py"))
    run_installed(site, tmp_path, CHECK_DATA_FILES, json.dumps(files))
