"""Fetches transformers' own common tests: the test files of the source archive of the version that is installed.

Run by `make test-common`, once; pytest never does. The files stay in the ignored `build` folder.
"""

import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path


REPOSITORY_ROOT = Path(__file__).resolve().parents[2]
# Not `tests`, as in the archive: that is the name of this repository's own.
PACKAGE = "transformers_tests"


def folder() -> Path:
    """Where the package of the installed transformers' test files is, or will be: one folder a version."""
    return REPOSITORY_ROOT / "build" / f"transformers-{importlib.metadata.version('transformers')}"


def fetch() -> Path:
    """Download and unpack the test files, unless they are there already.

    Returns:
        the folder that holds the package `transformers_tests`.

    Raises:
        SystemExit: without a network, or if the package index has no source archive of the installed version.
    """
    target, version = folder(), importlib.metadata.version("transformers")
    if (target / PACKAGE).is_dir():
        return target
    with tempfile.TemporaryDirectory() as scratch:
        _download(version, Path(scratch))
        archives = list(Path(scratch).glob("transformers-*.tar.gz"))
        if [archive.name for archive in archives] != [f"transformers-{version}.tar.gz"]:
            sys.exit(f"Asked for transformers {version}, got {[archive.name for archive in archives]}.")
        package = _unpack(archives[0], Path(scratch))
        target.mkdir(parents=True, exist_ok=True)
        shutil.move(package, target / PACKAGE)
    return target


def _download(version: str, scratch: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    # With the build tools that are installed: only the archive is fetched, nothing is made of it.
    command += ["--no-build-isolation", "--dest", str(scratch), f"transformers=={version}"]
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        sys.exit(
            f"{result.stderr.strip()}\n\ntransformers' common tests come with the source archive of transformers "
            f"{version}, which pip could not download (see above). They are needed once, and so is a network."
        )


def _unpack(archive: Path, scratch: Path) -> Path:
    """The archive's test files as a package in `scratch`."""
    root = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.name.startswith(f"{root}/tests/test_")]
        tar.extractall(scratch, members, filter="data")
    package = scratch / root / "tests"
    (package / "__init__.py").touch()
    return package


if __name__ == "__main__":
    print(fetch())
