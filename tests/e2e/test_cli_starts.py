"""Commands around starts and ends: each test has a gateway of its own."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

from tests.e2e.test_cli import LAST_WORDS, ask, printed
from tests.support.gateway import configuration, route, running, upstream
from tests.support.replies import Healthy, chunked
from tests.support.scripted import Named, ScriptedUpstream


def test_a_paused_upstream_gets_no_calls_over_a_restart_too(tmp_path: Path) -> None:
    """Calls go to the next target, or hear that they must wait; the list and the page show it; then it is back."""
    with ScriptedUpstream(Named({"good": Healthy(), "spare": Healthy()})).running() as server:
        named = [upstream(name, server.base_url(name)) for name in ("good", "spare")]
        with running(tmp_path, configuration(named, [route("both", "good", "spare")])) as gateway:
            told = gateway.run("upstreams", "pause", "good").stdout
            assert "intertie upstreams resume good" in told
            gateway.stop()
            gateway.start()  # with the same file, which says nothing of a pause
            assert ask(gateway, "both", gateway.key)[0] == 200
            assert [one.name for one in server.requests] == ["spare"]
            assert "paused" in gateway.run("upstreams", "list").stdout
            assert "paused" in gateway.get("/")

            gateway.cli("upstreams", "pause", "spare", "--model", "m")
            status, body = ask(gateway, "both", gateway.key)
            assert (status, body["error"]["message"]) == (503, "Every target of this model is paused.")
            assert "intertie upstreams resume spare" in gateway.get("/")

            gateway.cli("upstreams", "resume", "good")
            gateway.cli("upstreams", "resume", "spare", "--model", "m")
            assert ask(gateway, "both", gateway.key)[0] == 200
            assert [one.name for one in server.requests] == ["spare", "good"]
            assert gateway.run("upstreams", "pause", "god").returncode == 1


def test_smoke_cleans_up_after_ctrl_c(tmp_path: Path) -> None:
    """Interrupted in the middle of a slow answer, it takes its key, routes and upstream away before it ends."""
    with ScriptedUpstream(Named({"slow": chunked([b"x"] * 100, every=1.0)})).running() as server:
        document = configuration([upstream("slow", server.base_url("slow"))], [route("slow", "slow")])
        with running(tmp_path, document) as gateway:
            environ = {"INTERTIE_DATA": str(gateway.data), "INTERTIE_ADMIN_KEY": gateway.admin_key}
            words = [sys.executable, "-m", "intertie", "smoke"]
            pipe = subprocess.PIPE
            with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=environ) as smoke:
                try:
                    deadline = time.monotonic() + 30
                    while not server.requests:
                        assert time.monotonic() < deadline, gateway.tail()
                        time.sleep(0.02)
                    assert any(row["model"].startswith("intertie-smoke/") for row in gateway.cli("routes", "list"))
                    smoke.send_signal(signal.SIGINT)
                    _, told = smoke.communicate(timeout=30)
                finally:
                    smoke.kill()

            assert smoke.returncode != 0
            assert "Traceback" not in told
            assert [row["model"] for row in gateway.cli("routes", "list")] == ["slow"]
            assert [row["name"] for row in gateway.cli("upstreams", "list")] == ["slow"]
            assert [row["name"] for row in gateway.cli("keys", "list")] == ["test"]


def test_the_first_start_shows_a_key_that_works_and_later_starts_show_nothing_secret(tmp_path: Path) -> None:
    """The printed curl line answers once there is a route; the second start prints a variable."""
    with running(tmp_path, {"settings": {}}) as gateway:
        first = printed(gateway, LAST_WORDS)
        key = next(line.strip() for line in first.splitlines() if line.strip().startswith("sk-it-"))
        assert ask(gateway, "nothing", key)[0] == 404
        gateway.stop()
        gateway.output.unlink()
        gateway.start()
        second = printed(gateway, LAST_WORDS)

    assert "sk-it-" not in second
    for path in gateway.data.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path.suffix == ".lock", path
