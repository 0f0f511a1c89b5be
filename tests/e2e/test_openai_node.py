"""The official JavaScript client, unmodified, on Node: each case of `node/driver.test.mjs` is a test here."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.e2e.doors import Door, node_packages
from tests.support.gateway import require_command
from tests.support.replies import TEXT

pytestmark = pytest.mark.slow

CASES = ("create", "server-sent events", "stream helper", "runTools", "abort", "error class", "embeddings", "models")


@pytest.fixture(scope="module")
def output(door: Door) -> str:
    """The driver's whole output against this gateway."""
    environ = {"BASE_URL": door.gateway.base_url, "API_KEY": door.gateway.key, "MODEL": door.model}
    ran = subprocess.run(
        [require_command("node", "nodejs"), "--test", "--test-reporter=tap", "driver.test.mjs"],
        cwd=node_packages(),
        env=environ if door.real else {**environ, "TEXT": TEXT},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return ran.stdout + ran.stderr


@pytest.mark.parametrize("case", CASES)
def test_case(output: str, case: str) -> None:
    """The client gets what it expects."""
    assert re.search(rf"^ *ok \d+ - {re.escape(case)}$", output, re.MULTILINE), output


def test_no_case_is_left_out(output: str) -> None:
    """The driver runs exactly the cases listed here."""
    assert set(re.findall(r"^ *(?:not )?ok \d+ - (.*)$", output, re.MULTILINE)) - {"driver.test.mjs"} == set(CASES)
