"""Takes frames out of lanes, for tests that have no wire."""

from wlproxy.protocol.channel.frames import Frame
from wlproxy.transport.lane_tasks import LaneTasks


def taken(lanes: LaneTasks) -> list[Frame]:
    """Take what may leave now."""
    frames: list[Frame] = []

    def keep(frame: Frame) -> bytes:
        frames.append(frame)
        return b""

    lanes.next_batch(keep)
    return frames
