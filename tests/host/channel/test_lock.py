"""One proxy per channel, however the one before it ended."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wlproxy.host.channel.lock import ChannelLock
from wlproxy.host.errors import HostError


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[Path]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "channel"))
        yield tmp_path / "channel"


def locks(directory: Path) -> list[str]:
    return [path.name for path in directory.glob("*.lock")]


def test_the_second_hears_who_has_it(tmp_path: Path, channel: Path) -> None:
    with ChannelLock(tmp_path, channel, "work"):
        with pytest.raises(HostError, match=f"work, process {os.getpid()}"):
            ChannelLock(tmp_path, channel, "other")
        # By another name too: it is the socket that counts.
        (tmp_path / "alias").symlink_to(channel)
        with pytest.raises(HostError, match="another proxy has this channel"):
            ChannelLock(tmp_path, tmp_path / "alias", "other")
    assert locks(tmp_path) == []
    ChannelLock(tmp_path, channel, "other").close()


def test_another_channel_is_another_matter(tmp_path: Path, channel: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, ChannelLock(tmp_path, channel, "a"):
        listener.bind(str(tmp_path / "second"))
        with ChannelLock(tmp_path, tmp_path / "second", "b"):
            assert len(locks(tmp_path)) == 2


def test_what_a_killed_proxy_left_is_no_obstacle_and_is_swept(
    tmp_path: Path, channel: Path
) -> None:
    program = (
        "import sys, time; from pathlib import Path;"
        "from wlproxy.host.channel.lock import ChannelLock;"
        "lock = ChannelLock(Path(sys.argv[1]), Path(sys.argv[2]), 'killed');"
        "print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), str(channel)],
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(HostError, match=f"killed, process {other.pid}"):
            ChannelLock(tmp_path, channel, "work")
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert len(locks(tmp_path)) == 1

    channel.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(channel))  # as QEMU does when it is started anew
        with ChannelLock(tmp_path, channel, "work"):
            assert len(locks(tmp_path)) == 1


def test_where_there_is_no_socket_any_more_there_is_nothing_to_guard(
    tmp_path: Path,
) -> None:
    with ChannelLock(tmp_path, tmp_path / "absent", "work"):
        assert locks(tmp_path) == []
