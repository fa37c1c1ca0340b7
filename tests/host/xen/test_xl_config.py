from pathlib import Path

import pytest

from wlproxy.host.xen.xl_config import xl_lines


def test_the_lines() -> None:
    assert xl_lines(Path("/run/user/1000/wlproxy-work.channel"), 64) == (
        'channel = [ "name=org.wlproxy.0,connection=socket,'
        'path=/run/user/1000/wlproxy-work.channel" ]\n'
        "# 111 MiB of buffers at once: 3 of 3840x2160.\n"
        "max_grant_frames = 64\n"
    )


@pytest.mark.parametrize("path", ['/a"b', "/a,b", "/a\\b", "/a\nb"])
def test_paths_that_xl_cannot_have(path: str) -> None:
    with pytest.raises(ValueError, match=r"xl\.cfg"):
        xl_lines(Path(path), 64)
