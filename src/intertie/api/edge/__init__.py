"""The HTTP edge: uvicorn with httptools, made safe to expose without a proxy in front.

Reading order: `rules` (what is accepted), `intake` (bytes to whole messages), `cycle` (one request and its answer),
`protocol` (one connection), `upgrade` (when one becomes a WebSocket and leaves), `state` (what connections share),
`server` (all of them, and the pieces of a drain).
"""

from intertie.api.edge.rules import EdgeLimits
from intertie.api.edge.server import EdgeServer, EdgeStatistics, make_server
from intertie.api.edge.upgrade import Handshake, Upgrades

__all__ = ["EdgeLimits", "EdgeServer", "EdgeStatistics", "Handshake", "Upgrades", "make_server"]
