"""The program that serves a local model: run as a child process by `cli/local_model.py`, never imported by anything.

It reads one JSON line from standard input (secrets do not belong in argv), prints one when it listens, and lives until
its standard input closes, which also happens when the parent is killed.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

QUIET: Final = 1
"""Of the engine's log levels: errors only."""


def serve(job: dict[str, Any]) -> str:
    """Load the model, start the engine's HTTP server on loopback and return its address."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = job["weights"]
    params.model_alias = {job["model"]}
    params.hostnames = ["127.0.0.1"]
    params.port = job["port"]
    params.api_keys = [job["key"]]
    params.chat_template = job["template"]
    params.use_jinja = True
    params.n_ctx = job["context"]
    params.n_parallel = job["slots"]
    params.kv_unified = True  # a single long conversation may use the whole context
    params.n_batch = params.n_ubatch = 1024  # the longest input of one embedding, in tokens
    params.cpuparams.n_threads = job["threads"]
    params.cpuparams_batch.n_threads = job["threads"]
    params.embedding = True  # chat keeps working; embeddings come from the same weights by mean pooling
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.ui = False
    params.verbosity = QUIET
    server = xllamacpp.Server(params)
    _KEEP.append(server)
    return str(server.listening_address)


_KEEP: Final[list[object]] = []
"""The engine stops when its object is collected."""


def main() -> None:
    """Serve until standard input closes."""
    job = json.loads(sys.stdin.readline())
    print(json.dumps({"address": serve(job)}), flush=True)
    sys.stdin.read()
    os._exit(0)  # the engine's own threads may still be generating; nobody is listening any more


if __name__ == "__main__":
    main()
