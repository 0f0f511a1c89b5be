"""Boot settings: sources, precedence, and every problem at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from intertie.settings import FIELDS, Settings, SettingsError, check_section, load


def _problems(section: dict[str, object], environ: dict[str, str]) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        load(section, environ)
    return {problem.name: problem.message for problem in caught.value.problems}


def test_defaults_listen_on_loopback_only() -> None:
    """A first start is reachable from this machine alone."""
    settings = load({}, {}).settings

    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.hosts() == ("localhost", "127.0.0.1", "[::1]")
    assert settings.body_limit == 32 * 1024 * 1024
    assert settings.drain_seconds == 120


def test_command_line_beats_environment_beats_file_beats_default() -> None:
    """Each source overrides the one before, setting by setting."""
    section = {"port": 1000, "host": "10.0.0.1", "log_level": "error"}
    environ = {"INTERTIE_PORT": "2000", "INTERTIE_HOST": "10.0.0.2"}
    settings = load(section, environ, {"port": 3000, "host": None}).settings

    assert settings.port == 3000
    assert settings.host == "10.0.0.2"
    assert settings.log_level == "error"
    assert settings.durability == "write"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("BODY_LIMIT", "1 MiB", 1 << 20),
        ("BODY_LIMIT", "1000", 1000),
        ("MEMORY_LIMIT", "2gb", 2_000_000_000),
        ("LOG_REQUESTS", "off", False),
        ("DRAIN_SECONDS", "1.5", 1.5),
        ("DURABILITY", "FSYNC", "fsync"),
        ("ALLOWED_HOSTS", "ai.example.com, *.example.org", ("ai.example.com", "*.example.org")),
        ("TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8,fd00::/8", ("127.0.0.1/32", "10.0.0.0/8", "fd00::/8")),
        ("PUBLIC_URL", "https://ai.example.com/", "https://ai.example.com"),
        ("DATA", "/var/lib/intertie", Path("/var/lib/intertie")),
        ("PORT", "0", 0),
        ("WORKERS", "1", 1),
    ],
)
def test_environment_texts_become_values(name: str, text: str, value: object) -> None:
    """Sizes, flags, lists and paths are written the way people write them."""
    settings = load({}, {f"INTERTIE_{name}": text}).settings

    assert getattr(settings, name.lower()) == value


def test_every_problem_is_reported_at_once() -> None:
    """File and environment together, each under the name by which it was written."""
    found = _problems(
        {"prot": 1, "master_key": "k", "workers": 4},
        {
            "INTERTIE_PORT": "70000",
            "INTERTIE_LOG_LEVEL": "loud",
            "INTERTIE_BODY_LIMIT": "0",
            "INTERTIE_PUBLIC_URL": "ai.example.com",
            "INTERTIE_DRAIN_SECONDS": "nan",
            "INTERTIE_ALLOWED_HOSTS": "https://x",
            "INTERTIE_LOG_REQUESTS": "maybe",
        },
    )

    assert set(found) == {
        "settings.prot",
        "settings.master_key",
        "settings.workers",
        "INTERTIE_PORT",
        "INTERTIE_LOG_LEVEL",
        "INTERTIE_BODY_LIMIT",
        "INTERTIE_PUBLIC_URL",
        "INTERTIE_DRAIN_SECONDS",
        "INTERTIE_ALLOWED_HOSTS",
        "INTERTIE_LOG_REQUESTS",
    }
    assert "did you mean port?" in found["settings.prot"]
    assert "INTERTIE_MASTER_KEY in the environment" in found["settings.master_key"]
    assert "embedded database" in found["settings.workers"]
    assert "0 to 65535" in found["INTERTIE_PORT"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("proxy.example.com", "neither an address nor a network"),
        ("10.0.0.1/8", "neither an address nor a network"),
        ("10.0.0.0/8, *", "neither an address nor a network"),
        ("0.0.0.0/0", "everybody"),
        ("::/0", "everybody"),
    ],
)
def test_nobody_trusts_the_whole_world_by_accident(text: str, words: str) -> None:
    """A network with bits too many is a slip of the hand, too."""
    assert words in _problems({}, {"INTERTIE_TRUSTED_PROXIES": text})["INTERTIE_TRUSTED_PROXIES"]
    assert load({}, {}).settings.trusted_proxies == ()
    assert load({"trusted_proxies": ["10.0.0.0/8"]}, {}).settings.trusted_proxies == ("10.0.0.0/8",)


def test_an_unknown_variable_is_a_warning_naming_the_nearest() -> None:
    """Platforms add variables of their own, so a start does not fail for one."""
    loaded = load({}, {"INTERTIE_PROT": "1", "INTERTIE_SERVICE_HOST": "10.0.0.1", "PATH": "/bin"})

    assert loaded.warnings[0] == "INTERTIE_PROT is no setting, did you mean INTERTIE_PORT?; ignored"
    assert len(loaded.warnings) == 2


def test_the_clients_own_variables_are_no_mistake() -> None:
    """`intertie keys` and a gateway can share an environment."""
    assert load({}, {"INTERTIE_URL": "http://x", "INTERTIE_TOKEN": "t", "INTERTIE_NODE_DATA": "/n"}).warnings == ()


def test_the_port_that_kubernetes_sets_for_a_service_is_ignored() -> None:
    """A service named intertie sets INTERTIE_PORT to an address."""
    loaded = load({}, {"INTERTIE_PORT": "tcp://10.0.0.1:80"})

    assert loaded.settings.port == 8080
    assert "Kubernetes" in loaded.warnings[0]


def test_an_empty_variable_is_not_set() -> None:
    """Compose files write `NAME=` for what they leave open."""
    assert load({}, {"INTERTIE_PUBLIC_URL": ""}).settings.public_url is None


@pytest.mark.parametrize("value", [True, [], {}, 1.5, None, ""])
def test_a_value_of_the_wrong_kind_is_a_problem_and_not_a_crash(value: Any) -> None:
    """F81: whatever YAML yields is answered with a reason, for every setting."""
    for name in FIELDS:
        list(check_section({name: value}))

    assert [problem.name for problem in check_section({"port": value})] == ["settings.port"]


def test_secrets_are_not_printed() -> None:
    """Logging the settings gives nothing away."""
    settings = load({}, {"INTERTIE_MASTER_KEY": "canary-1", "INTERTIE_ADMIN_KEY": "canary-2"}).settings

    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    ("settings", "hosts"),
    [
        (Settings(host="0.0.0.0"), ("*",)),
        (Settings(host="192.168.1.5"), ("localhost", "127.0.0.1", "[::1]", "192.168.1.5")),
        (Settings(public_url="https://AI.example.com"), ("localhost", "127.0.0.1", "[::1]", "ai.example.com")),
        (Settings(host="0.0.0.0", allowed_hosts=("a.example",)), ("a.example",)),
        (Settings(host="fd00::1"), ("localhost", "127.0.0.1", "[::1]", "[fd00::1]")),
    ],
)
def test_hosts_follow_from_where_the_gateway_is_reached(settings: Settings, hosts: tuple[str, ...]) -> None:
    """Loopback names are always there; others come from what the operator said."""
    assert settings.hosts() == hosts


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        (Settings(), 0.0),
        (Settings(public_url="https://ai.example.com"), 5.0),
        (Settings(accept_seconds=2.0, public_url="https://ai.example.com"), 2.0),
    ],
)
def test_accepting_goes_on_after_sigterm_only_where_a_balancer_may_need_it(settings: Settings, seconds: float) -> None:
    """Stopping a gateway on a desk does not wait for nobody."""
    assert settings.accepting() == seconds


def test_every_setting_has_help() -> None:
    """Help and reference page are made from these texts."""
    assert all(len(field.metadata["help"]) > 15 for field in FIELDS.values())
