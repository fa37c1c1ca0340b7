"""Pumps: they carry bytes between one end of a pipe and its stream's lane.

Each pump goes as fast as both sides allow.  Whose pipe it is, and who runs the pump, is not
known here.
"""

from functools import partial

from wlproxy.protocol.channel.frames import CloseReason, StreamData
from wlproxy.protocol.channel.lanes.bounds import CHUNK
from wlproxy.protocol.channel.lanes.lane import Lane
from wlproxy.transport.lane_tasks import LaneTasks
from wlproxy.transport.stream_end import StreamEnd


async def pump_to_peer(end: StreamEnd, lane: Lane, lanes: LaneTasks) -> CloseReason:
    """Send what the pipe yields until its end; return what to tell the peer then.

    Cancel it when the peer reads no more.
    """
    try:
        while True:
            room = await lanes.room(lane)
            data = await end.read(min(CHUNK, room))
            if not data:
                return CloseReason.NORMAL
            lanes.put(StreamData(*lane, data))
    except OSError:
        return CloseReason.FAILED


async def pump_from_peer(end: StreamEnd, lane: Lane, lanes: LaneTasks) -> CloseReason:
    """Write what the peer sends until its end, or until nobody reads any more."""
    await end.write_chunks(partial(lanes.pull, lane), partial(lanes.consumed, lane))
    return CloseReason.NORMAL
