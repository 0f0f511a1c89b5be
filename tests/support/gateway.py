"""The gateway as users run it: a real process started from a configuration file, watched through /proc."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CLIENT_KEY = "client-key-0123456789"
UPSTREAM_KEY = "upstream-key-0123456789"
ADMIN_KEY = "admin-key-0123456789-abcdefghij"
_START_SECONDS = 30.0


def upstream(
    name: str,
    base_url: str,
    *,
    credentials: Sequence[str] = ("UPSTREAM_KEY",),
    timeouts: Mapping[str, float] | None = None,
    **more: object,
) -> dict[str, object]:
    """One upstream of a configuration. `credentials` are names of environment variables."""
    entry: dict[str, object] = {"name": name, "provider": "openai_compatible", "base_url": base_url, **more}
    entry["credentials"] = [{"env": variable} for variable in credentials]
    if timeouts:
        entry["timeouts"] = dict(timeouts)
    return entry


def route(model: str, *upstreams: str, target: str = "m") -> dict[str, object]:
    """One route of a configuration: the same model on each upstream, one tier after the other."""
    targets = [{"upstream": name, "model": target, "tier": tier} for tier, name in enumerate(upstreams)]
    return {"model": model, "strategy": "priority", "targets": targets}


def configuration(
    upstreams: Sequence[Mapping[str, object]], routes: Sequence[Mapping[str, object]], **more: object
) -> dict[str, Any]:
    """A whole configuration with one project and one API key, `CLIENT_KEY`."""
    keys = [{"name": "test", "value": {"env": "CLIENT_KEY"}}]
    return {"upstreams": list(upstreams), "routes": list(routes), "projects": [{"name": "tests", "keys": keys}], **more}


class GatewayFailed(RuntimeError):
    """The process did not do what it should; the message ends with its last output."""


@dataclass
class Gateway:
    """One gateway and its data folder, which outlives the process."""

    folder: Path
    configuration: Mapping[str, object]
    environ: dict[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    """More words for `intertie up`."""
    key: str = CLIENT_KEY
    prefix: Sequence[str] = ()
    """What runs before the program and its commands, such as `ip netns exec …`."""
    address: str = ""
    """Where tests reach a gateway that listens on every interface of another host; empty: loopback, here."""
    url: str = ""
    """`http://127.0.0.1:port` while it runs."""
    started_in: float = 0.0
    """Seconds from starting the process until it was ready."""
    _process: subprocess.Popen[bytes] | None = None

    # -- life

    def start(self) -> None:
        """Start it and wait until it is ready. The configuration file is written anew, as JSON, which is YAML."""
        (self.data / "gateway.json").unlink(missing_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "intertie.yaml"
        file.write_text(json.dumps(self.configuration, indent=1), encoding="utf-8")
        begun = time.monotonic()
        host = "0.0.0.0" if self.address else "127.0.0.1"
        where = ["--host", host, "--port", "0", "--data", str(self.data)]
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "intertie", "up", "--config", str(file), *where, *self.options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self._environment(),
            )
        self._await_ready(begun + _START_SECONDS)
        self.started_in = time.monotonic() - begun

    def _await_ready(self, deadline: float) -> None:
        place = self.data / "gateway.json"
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise GatewayFailed(f"ended with {self.process.returncode}:\n{self.tail()}")
            try:
                self.url = json.loads(place.read_text(encoding="utf-8"))["url"].rstrip("/")
                if self.address:
                    self.url = self.url.replace("127.0.0.1", self.address)
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=2):
                    return
            except urllib.error.HTTPError as not_ready:
                not_ready.close()
            except (OSError, ValueError):  # not written yet, half written, not listening yet
                pass
            time.sleep(0.01)
        self.kill()
        raise GatewayFailed(f"not ready in {_START_SECONDS:.0f} s:\n{self.tail()}")

    def stop(self, within: float = 15.0) -> int:
        """Ask it to end (SIGTERM) and wait; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise GatewayFailed(f"did not end within {within} s of SIGTERM:\n{self.tail()}") from None

    def kill(self) -> None:
        """`kill -9`, by its own pid."""
        self.process.kill()
        self.process.wait()

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    # -- looking at it

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process last started."""
        assert self._process is not None
        return self._process

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.folder / "state"

    @property
    def output(self) -> Path:
        """The file with everything it printed."""
        return self.folder / "output.log"

    @property
    def base_url(self) -> str:
        """What clients are given."""
        return f"{self.url}/v1"

    def tail(self, size: int = 4000) -> str:
        """The end of what it printed."""
        return self.output.read_text(encoding="utf-8", errors="replace")[-size:]

    def resident(self) -> int:
        """Bytes of resident memory."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def sockets(self) -> int:
        """Open sockets."""
        count = 0
        for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                count += str(entry.readlink()).startswith("socket:")
            except FileNotFoundError:  # closed while we looked
                continue
        return count

    # -- its operator's doors

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `intertie …` against it."""
        return subprocess.run(
            [*self.prefix, sys.executable, "-m", "intertie", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.folder,
            env={**self._environment(), "INTERTIE_DATA": str(self.data)},
            check=False,
        )

    def cli(self, *arguments: str) -> Any:
        """What `intertie … --json` prints, decoded. Raises `GatewayFailed` unless it exits with 0."""
        ran = self.run(*arguments, "--json")
        if ran.returncode != 0:
            raise GatewayFailed(f"intertie {' '.join(arguments)}: {ran.returncode}\n{ran.stdout}{ran.stderr}")
        return json.loads(ran.stdout)

    def get(self, path: str) -> str:
        """The body of any of its pages, asked for with the admin key, whatever its status."""
        request = urllib.request.Request(self.url + path, headers={"authorization": f"Bearer {self.admin_key}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.read().decode()

    @property
    def admin_key(self) -> str:
        """The key of the admin API."""
        return self.environ.get("INTERTIE_ADMIN_KEY", ADMIN_KEY)

    def _environment(self) -> dict[str, str]:
        """Only what it needs: a stray variable of the machine must not change a test."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "PYTHONPATH") if name in os.environ}
        keys = {"CLIENT_KEY": self.key, "UPSTREAM_KEY": UPSTREAM_KEY, "INTERTIE_ADMIN_KEY": ADMIN_KEY}
        alone = {"INTERTIE_LOCAL_NODE": "false"}  # whatever listens on this machine is none of the test's business
        return {**kept, "HOME": str(self.folder), **alone, **keys, **self.environ}


@contextmanager
def running(
    folder: Path,
    configuration: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> Iterator[Gateway]:
    """A started gateway, stopped at the end of the block if it still runs."""
    gateway = Gateway(folder, configuration, dict(environ or {}), options)
    gateway.start()
    try:
        yield gateway
    finally:
        if gateway.running:
            gateway.stop()


def require_command(name: str, package: str) -> str:
    """The path of an installed program; fails with how to install it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")
    assert found is not None, f"{name} is missing: apt-get install {package}"
    return found
