"""Nodes that lose their place: nothing of theirs goes on, however they hold on to it."""

from __future__ import annotations

import asyncio

from websockets.asyncio.client import ClientConnection

from intertie.core.errors import UpstreamReset
from intertie.core.wire.link import CloseCode
from tests.contract.controlplane.applicants import Machine as Enrolling
from tests.contract.controlplane.applicants import make_token
from tests.contract.link.bed import NODE, Bed, Machine, attached, closing, head, nothing, soon, taken

SOON = 2.0
"""Seconds within which a revoked node is shut out."""


async def endless(bed: Bed, lane: ClientConnection) -> asyncio.Task[str]:
    """An exchange on `lane` that its node never ends; the task tells how it ended."""

    async def ask() -> str:
        async with bed.transport.open(bed.request(), None, nothing) as wire:
            try:
                while await wire.chunk() is not None:
                    pass
            except UpstreamReset as error:
                return str(error.detail)
            return "the proper end"

    asking = asyncio.create_task(ask())
    await taken(lane)
    await head(lane)
    await lane.send(b"data: {}\n\n")
    return asking


async def test_a_stream_ends_with_its_node_though_another_instance_of_it_took_the_place(bed: Bed) -> None:
    attachment, (lane,) = await attached(bed)
    asking = await endless(bed, lane)
    machine = attachment.machine
    await Machine(bed, NODE, machine.key, "instance-2").attach()
    await closing(attachment.control)
    assert not asking.done(), "what runs may finish when an agent starts anew"

    await bed.set_state(NODE, "revoked")

    assert "revoked" in (await closing(lane))[1]
    assert await asyncio.wait_for(asking, SOON) != "the proper end"


async def test_a_stream_ends_with_its_node_though_its_control_lane_is_gone(bed: Bed) -> None:
    attachment, (lane,) = await attached(bed)
    asking = await endless(bed, lane)
    await attachment.control.close()
    await soon(lambda: not bed.links.presence())

    await bed.set_state(NODE, "revoked")

    assert (await closing(lane))[0] == CloseCode.REVOKED
    await asyncio.wait_for(asking, SOON)


async def test_the_old_key_holds_nothing_once_the_node_was_enrolled_again(bed: Bed) -> None:
    attachment, (lane,) = await attached(bed)
    asking = await endless(bed, lane)

    Enrolling().enrol(bed.control, make_token(bed.control, "", node="rig").token)
    await asyncio.to_thread(bed.snapshots.refresh)

    assert (await closing(attachment.control))[0] == CloseCode.AUTH_FAILED
    await closing(lane)
    await asyncio.wait_for(asking, SOON)
