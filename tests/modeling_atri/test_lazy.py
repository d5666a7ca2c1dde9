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
