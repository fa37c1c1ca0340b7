"""Real apps of a domU: shown from its own pages.  Their pictures are left for people to look at."""

import pytest

from lab import xen_guest
from tests.integration import harness
from tests.integration.harness import eventually
from tests.xen.chain.stage import PATIENCE, Shown

pytestmark = [
    pytest.mark.xen,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not xen_guest.in_dom0(), reason="needs Xen's dom0"),
]

APPS = {
    "weston-simple-shm": ["weston-simple-shm"],
    "foot": ["foot", "sh", "-c", "seq 100; sleep 600"],
    "gtk4-demo": ["gtk4-demo"],
}
FRAMES = {"weston-simple-shm": 5}
"""How many are waited for; of others, as many as they show by themselves."""
ENVIRONMENT = {
    "GDK_BACKEND": "wayland",
    "GSK_RENDERER": "cairo",
    "GSETTINGS_BACKEND": "memory",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


@pytest.mark.parametrize("name", APPS)
@pytest.mark.parametrize("shown", ["pvh-tiles"], indirect=True)
def test_an_app_is_shown(shown: Shown, name: str) -> None:
    log = f"/run/{name}.log"
    app = shown.side.app(*APPS[name], log=log, env=ENVIRONMENT)

    def look() -> object:
        return shown.proxy.surfaces(FRAMES.get(name, 1))

    def colours() -> bool:
        picture = shown.compositor.capture()
        picture.save(harness.OUT / f"{name}.ppm")
        rows = picture.rows(0, 0, picture.width, picture.height)[::16]
        return (
            len({row[at : at + 4] for row in rows for at in range(0, len(row), 4)}) > 9
        )

    try:
        shown.side.wait_app(app, log, look, PATIENCE)
        # It is neither one colour nor black.
        eventually(colours, f"{name} is seen", PATIENCE, pause=2)
        surfaces = shown.proxy.surfaces()
        assert surfaces
        assert {(each["mode"], each["bytes_copied"]) for each in surfaces} == {("A", 0)}
        assert shown.proxy.copied() == 0
        assert shown.domain.counts()[1] > 1
    finally:
        shown.side.kill_app(app)
