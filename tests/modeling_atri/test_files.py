import pytest

from modeling_atri.files import written_whole


def test_the_file_appears_at_the_end(tmp_path):
    path = tmp_path / "a.bin"
    with written_whole(path) as file:
        file.write(b"first")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"first"
    with written_whole(path) as file:
        file.write(b"second")
        file.flush()
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_of_a_failure(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    with pytest.raises(TypeError), written_whole(path) as file:
        file.writelines([b"half", "no bytes"])
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
