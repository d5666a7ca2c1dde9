"""Devices, and the names of data in results."""

import pytest

from modeling_atri.cli.loading import check_device, data_name, hub_id


def test_devices():
    check_device("cpu")
    for name in ("meta", "nonsense", ""):
        with pytest.raises(ValueError, match=f"The device '{name}' cannot be used: "):
            check_device(name)


@pytest.mark.parametrize(
    ("source", "split", "name", "repo"),
    [
        ("owner/clips", None, "owner/clips", "owner/clips"),
        ("owner/clips:fr", "train[:10%]", "owner/clips:fr/train[:10%]", "owner/clips"),
        ("owner/clips@v2", None, "owner/clips", "owner/clips"),
        ("hf://datasets/owner/clips/data/*.tar", None, "owner/clips/data/*.tar", "owner/clips"),
        ("hf://datasets/owner/clips@refs/convert/parquet", "test", "owner/clips/test", "owner/clips"),
        ("https://huggingface.co/datasets/owner/clips", None, "owner/clips", "owner/clips"),
        ("https://huggingface.co/datasets/owner/clips/tree/main/fr", None, "owner/clips/fr", "owner/clips"),
        ("https://huggingface.co/datasets/owner/clips/viewer/fr/test", None, "owner/clips:fr", "owner/clips"),
        ("/home/me/clips", "dev", "clips/dev", None),
        ("/home/me/set.tar.gz", None, "set.tar.gz", None),
        ("clips/rows.parquet", None, "rows.parquet", None),
        ("shards/*.tar", None, "*.tar", None),
        (None, None, None, None),
    ],
)
def test_names_of_data(source, split, name, repo):
    assert data_name(source, split) == name
    assert hub_id(source) == repo
