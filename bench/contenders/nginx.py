"""nginx as a plain reverse proxy: the floor. It does nothing but move bytes."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.contenders._contender import NotInstallable, Place, Running
from bench.load import Ask
from bench.processes import GATEWAY_CORE, BenchError, spawn
from bench.upstreams import nginx_program

_CONF = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log error;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; proxy_read_timeout 300s;
  upstream fast {{ server {fast}; keepalive 256; keepalive_requests 1000000000; }}
  upstream paced {{ server {paced}; keepalive 256; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location /fast/ {{ proxy_pass http://fast/; }}
    location /paced/ {{ proxy_pass http://paced/; }}
  }}
}}
"""


class Nginx:
    """One worker, no log, no buffering, upstream connections kept."""

    name = "nginx"
    note = "plain proxy, one worker, no log: the floor"
    slow = False

    def install(self, _cache: Path) -> str:
        """Comes from the distribution; only looked for."""
        try:
            said = subprocess.run([nginx_program(), "-v"], capture_output=True, text=True, check=True).stderr
        except BenchError as error:
            raise NotInstallable(str(error)) from error
        return said.strip().rpartition("/")[2]

    def start(self, place: Place) -> Running:
        """Paths choose the upstream."""
        conf = place.folder / "nginx.conf"
        fast, paced = place.fast.removeprefix("http://"), place.paced.removeprefix("http://")
        conf.write_text(_CONF.format(folder=place.folder, port=place.port, fast=fast, paced=paced))
        base = f"http://127.0.0.1:{place.port}"
        return Running(
            fast=Ask(f"{base}/fast/v1/chat/completions", "echo"),
            paced=Ask(f"{base}/paced/v1/chat/completions", "paced"),
            process=spawn([nginx_program(), "-c", str(conf)], GATEWAY_CORE, place.log),
        )


CONTENDER = Nginx()
