"""What the status file says of the link and of each runtime; no key is in it."""

from __future__ import annotations

from typing import Any

from intertie.agent.inventory import Runtime
from intertie.agent.link import LinkState


def connection(state: LinkState) -> dict[str, Any]:
    """The link."""
    return {
        "connected": state.connected,
        "since": state.since,
        "say": state.say,
        "pending": state.pending,
        "stopped": state.stopped,
        "epoch": state.epoch,
        "drained": state.drained,
        "lanes_parked": state.lanes_parked,
        "lanes_busy": state.lanes_busy,
        "slots_cap": state.slots_cap,
    }


def offered(runtime: Runtime) -> dict[str, Any]:
    """A runtime without its key."""
    models = [
        {
            "name": model.name,
            "context": model.context,
            "slots": model.slots,
            "loaded": model.loaded,
            "quantisation": model.quantisation,
            "capabilities": list(model.capabilities),
            "prefill": model.prefill,
            "decode": model.decode,
        }
        for model in runtime.models
    ]
    members = {"kind": runtime.kind, "url": runtime.url, "version": runtime.version, "slots": runtime.slots}
    return {**members, "queue": runtime.queue, "models": models}
