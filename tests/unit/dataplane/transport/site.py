"""Links with one node, whose end is played by the test."""

from __future__ import annotations

from types import MappingProxyType

from intertie.core.terms import ModelFacts, Node, Snapshot, Upstream
from intertie.dataplane.transport.attached import Attached
from intertie.dataplane.transport.lane import Lane
from intertie.dataplane.transport.link import Introduction, Links
from intertie.dataplane.transport.wired import Wired
from tests.unit.dataplane.transport.far_end import Clock, FarEnd

UPSTREAM = Upstream("n", "o", "rig", "node", "")
FACTS = {
    "m": ModelFacts("m", decode=40.0),
    "cold": ModelFacts("cold", loaded=False),
    "one": ModelFacts("one", slots=1),
}


class Control(Wired):
    """A control lane that has been let in."""

    def __init__(self, links: Links) -> None:
        self._wire(links)

    def data_received(self, data: bytes) -> None:
        self.heard = True


class Site:
    """Links with one node."""

    def __init__(self, slots: int = 2, epoch: int = 1) -> None:
        self.clock = Clock()
        self.links = Links(clock=self.clock, wall=lambda: 43_380.0)
        self.attached, self.far = self.attach(epoch)
        self.attached.offer(slots)
        self.attached.learn(FACTS)

    def attach(self, epoch: int) -> tuple[Attached, FarEnd]:
        control = Control(self.links)
        far = FarEnd(control)
        attached = self.links.attach(Introduction("n", "o", epoch, f"i{epoch}"), control)
        assert attached is not None
        return attached, far

    def lane(self, ticket: str | None = None) -> FarEnd:
        return FarEnd(self.links.lane(self.links.ticket(self.attached) if ticket is None else ticket))

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.now += 1
            self.links.sweep(self.clock.now)


def node(**more: object) -> Node:
    return Node("n", "o", "rig", **more)  # type: ignore[arg-type]


def snapshot(*nodes: Node) -> Snapshot:
    return Snapshot(nodes=MappingProxyType({(one.organisation, one.name): one for one in nodes}))


async def take(site: Site, model: str = "m", patience: float = 60.0) -> Lane:
    return await site.attached.take(model, patience)


async def finish(lane: Lane, far: FarEnd) -> None:
    await lane.ask({}, b"", lambda: None)
    far.head()
    far.say("end")
    lane.release(proper=True)
