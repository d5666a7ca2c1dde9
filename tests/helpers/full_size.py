"""Random checkpoints of the published sizes, written to a folder: `python full_size.py FOLDER mlclap|towers`."""

import sys
from pathlib import Path

import torch

from tests.helpers.published import ced_state_dict, mlclap_state_dict, sonar_state_dict


def write(folder: Path, kind: str) -> None:
    """ML-CLAP's `pretrain.pt`, or its towers as `ced.pt` and `sonar.pt`: CED-Base and SONAR, 3.4 GB."""
    torch.manual_seed(0)
    ced = ced_state_dict(width=768, depth=12)
    sonar = sonar_state_dict(width=1024, depth=24, inner=8192, vocab_size=256206)
    if kind == "mlclap":
        torch.save(mlclap_state_dict(ced, sonar, projection_dim=1024), folder / "pretrain.pt")
    else:
        torch.save(ced, folder / "ced.pt")
        torch.save({"model": sonar}, folder / "sonar.pt")


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2])
