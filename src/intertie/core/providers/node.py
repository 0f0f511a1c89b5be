"""A node: one of our own machines, whose agent passes a call on to whichever runtime there serves the model."""

from __future__ import annotations

import msgspec

from intertie.core.providers._compatible import PATHS
from intertie.core.providers.lm_studio import LMStudio
from intertie.core.terms import NODE, Call, Operation, Target, Upstream
from intertie.core.wire.http import WireRequest

_TRUE = msgspec.Raw(b"true")


class Node(LMStudio):
    """Any runtime may be behind it: so the one name of the output limit that all know, and LM Studio's errors in words.

    A runtime is always asked to stream, because some notice only then that nobody listens any more; for a client that
    wants a whole answer, the agent puts it together.
    """

    kind = NODE
    title = "Node"
    base_url = None

    def request(self, call: Call, target: Target, upstream: Upstream) -> WireRequest:
        """What the link's transport sends. The `x-intertie-` headers become members of its OPEN message."""
        streams = call.operation is not Operation.EMBEDDING
        asked = call
        if streams and not call.stream:
            asked = msgspec.structs.replace(call, stream=True, fields={**call.fields, "stream": _TRUE})
        sent = super().request(asked, target, upstream)
        told = {
            "x-intertie-request": call.id,
            "x-intertie-model": target.model,
            "x-intertie-whole": "true" if streams and not call.stream else "false",
        }
        return msgspec.structs.replace(
            sent, url=f"link:{upstream.id}/v1{PATHS[call.operation]}", headers={**sent.headers, **told}
        )


ADAPTER = Node()
"""Not offered as `provider` in configuration files: nodes enrol themselves."""
