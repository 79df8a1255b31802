from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest

from quantface_core.cli.main import main
from quantface_core.errors import ModelError
from quantface_core.io import checksum, models
from quantface_core.io.catalogue import Entry, catalogue, models_folder
from quantface_core.io.checksum import known_sha256, sha256
from quantface_core.io.models import detector_path, restorer_path, stored_at
from tests.io.local_hub import LocalHub

YUNET = "opencv/face_detection_yunet/face_detection_yunet_2023mar.onnx"
BUNDLED_DETECTOR = stored_at(catalogue()["detectors"]["yunet"])


def test_the_bundled_files_are_whole_and_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("asked the Hub"))
    assert restorer_path("quantface-mini").stat().st_size <= 32 * 2**20
    assert detector_path().stat().st_size == 232_589


@pytest.fixture
def from_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue whose detector is not bundled but fetched."""
    entry = replace(catalogue()["detectors"]["yunet"], bundled=False, repo="opencv/face_detection_yunet")
    monkeypatch.setattr(models, "catalogue", lambda: {"detectors": {"yunet": entry}})


def test_an_existing_file_is_used_first(from_hub: None, models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("asked the Hub"))
    assert detector_path() == models_dir / "face_detection_yunet_2023mar.onnx"


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ModelError, match="; did you mean quantface-mini"):
        restorer_path("quantface-mnii")
    for name in ("GFPGANv1.4", "codeformer"):  # rather than "did you mean osdface?"
        with pytest.raises(ModelError, match=f"^{name} is not in the catalogue: give its file, such as folder/"):
            restorer_path(name)
    with pytest.raises(ModelError, match=r"unknown model 'x': give a file, or one of quantface-mini"):
        restorer_path("x")
    with pytest.raises(ModelError, match="no such model file"):
        restorer_path("nowhere/file.safetensors")


def test_a_damaged_file_is_never_used(
    from_hub: None, tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray((models_dir / "face_detection_yunet_2023mar.onnx").read_bytes())
    data[1000] ^= 1
    (tmp_path / "face_detection_yunet_2023mar.onnx").write_bytes(data)
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", str(tmp_path))
    with pytest.raises(ModelError, match=r"is damaged \(sha256 .*delete it to fetch it again"):
        detector_path()


def test_the_detector_is_fetched_checked_and_kept(
    from_hub: None, hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files[YUNET] = BUNDLED_DETECTOR.read_bytes()
    first, second = detector_path(), detector_path()
    assert first == second == tmp_path / "models" / "face_detection_yunet_2023mar.onnx"
    assert len(hub.downloads()) == 1


def test_a_changed_file_on_the_hub_is_refused(from_hub: None, hub: LocalHub, tmp_path: Path) -> None:
    hub.files[YUNET] = b"other"
    with pytest.raises(ModelError, match="is not the file"):
        detector_path()
    assert [path for path in (tmp_path / "models").iterdir() if path.suffix != ".lock"] == []


def test_a_file_named_like_a_bundled_model_is_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path.parent)
    file = tmp_path / "quantface-mini.safetensors"
    file.write_bytes(b"mine")
    assert restorer_path("quantface-mini") != file
    assert restorer_path("quantface-mini.safetensors") == file
    assert main(["models"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("quantface-mini")]
    assert {row[0]: row[1] for row in rows if "w4a4" not in row[0]} == {
        "quantface-mini": "bundled",
        "quantface-mini.safetensors": "local",
    }


def test_a_file_is_hashed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []
    monkeypatch.setattr(checksum, "sha256", lambda path: (hashed.append(path), sha256(path))[1])
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"first")
    first = known_sha256(file)
    assert known_sha256(file) == first == sha256(file)
    assert len(hashed) == 1
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.write_bytes(b"other")  # of the same size
    os.utime(file, ns=times)  # and time
    assert known_sha256(file) == sha256(file) != first
    assert len(hashed) == 2
    with pytest.raises(ModelError, match="cannot read"):
        known_sha256(tmp_path / "gone")


def test_a_missing_bundled_file(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(catalogue()["restorers"]["quantface-mini"], file="gone.safetensors")
    monkeypatch.setattr(models, "catalogue", lambda: {"restorers": {"gone": entry}})
    with pytest.raises(ModelError, match="install QuantFace again"):
        restorer_path("gone")


def test_every_entry_says_where_it_comes_from_and_its_licence() -> None:
    for entries in catalogue().values():
        for entry in entries.values():
            assert isinstance(entry, Entry)
            assert entry.kind in ("bundled", "fetch", "build")
            assert entry.licence
            assert len(entry.sha256) == 64 or entry.kind == "build"
            assert all(remote.repo and remote.licence for remote in entry.originals.values())


def test_models_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", "~/mine")
    assert models_folder() == Path.home() / "mine"
    monkeypatch.delenv("QUANTFACE_MODELS_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    assert models_folder() == Path("/var/cache/me/quantface/models")


def test_sha256_of_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read"):
        sha256(tmp_path / "nothing")


def test_own_files_in_the_models_folder_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", str(tmp_path))
    (tmp_path / "mine.safetensors").touch()
    assert restorer_path("mine") == tmp_path / "mine.safetensors"


def test_own_files_are_found_by_their_file_names_and_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    file = tmp_path / "mine.safetensors"
    file.touch()
    assert restorer_path("mine.safetensors") == restorer_path("~/mine.safetensors") == file
    with pytest.raises(ModelError, match="no such model file"):
        restorer_path("elsewhere/mine.safetensors")


def test_another_file_of_the_same_size_and_times_is_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where the change time is the one when a file was made, which a copy may bring too."""
    file, other = tmp_path / "model.safetensors", tmp_path / "other.safetensors"
    file.write_bytes(b"first")
    other.write_bytes(b"other")
    real = Path.stat

    def same_times(path: Path) -> SimpleNamespace:
        found = real(path)
        return SimpleNamespace(st_size=found.st_size, st_mtime_ns=1, st_ctime_ns=1, st_ino=found.st_ino)

    monkeypatch.setattr(Path, "stat", same_times)
    first = known_sha256(file)
    other.replace(file)
    assert known_sha256(file) == sha256(file) != first


def test_a_file_of_another_kind_is_opened_by_its_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("no model")
    assert restorer_path("notes.txt") == Path("notes.txt")


def test_a_path_is_as_good_as_its_text(tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").touch()
    assert restorer_path(tmp_path / "mine.safetensors") == restorer_path(str(tmp_path / "mine.safetensors"))
