import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import modeling_atri


def test_the_package_is_imported_from_a_zip_file(tmp_path):
    folder = Path(modeling_atri.__file__).parent
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        for path in folder.rglob("*.py"):
            archive.write(path, Path("modeling_atri", path.relative_to(folder)))
    code = "import modeling_atri.encode as e; print(e.__file__); assert 'encode_audio' in e.__all__"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "package.zip")}
    words = [sys.executable, "-c", code]
    run = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "package.zip" in run.stdout


def test_type_checkers_take_the_names_as_public(repository_root):
    """By PEP 484, `from x import name as name` re-exports a name; without `as` type checkers call it private."""
    files = [path for path in repository_root.glob("*/**/__init__.py") if "lazy_names(__name__" in path.read_text()]
    assert len(files) > 5
    for path in files:
        (block,) = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.If)]
        aliases = [alias for node in block.body for alias in node.names]
        assert aliases, path
        assert all(alias.asname == alias.name for alias in aliases), path
