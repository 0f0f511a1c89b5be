"""The folder is the list of providers."""

from __future__ import annotations

import pkgutil

from intertie.core import providers


def test_every_file_of_the_folder_is_an_adapter_named_like_it() -> None:
    files = {module.name for module in pkgutil.iter_modules(providers.__path__) if not module.name.startswith("_")}

    assert files == set(providers.load())
    assert files == {adapter.kind for adapter in providers.load().values()}


def test_an_adapter_is_presentable_and_knows_where_to_send_or_says_that_it_does_not() -> None:
    for adapter in providers.load().values():
        assert adapter.title
        assert adapter.operations
        assert adapter.base_url is None or adapter.base_url.startswith(("https://", "http://127.0.0.1:"))
        assert adapter.base_url is None or not adapter.base_url.endswith("/")


def test_adapters_are_loaded_once() -> None:
    assert providers.load() is providers.load()
