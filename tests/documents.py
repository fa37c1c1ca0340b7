"""Documents of the status socket, as tests of the command line have them."""

from typing import Any


def window(**other: Any) -> dict[str, Any]:
    """A surface of the document; by default a window without anything special."""
    return {
        "client_id": 1,
        "label": "foot(312)",
        "surface": 14,
        "kind": "window",
        "title": "",
        "app_id": "foot",
        "width": 800,
        "height": 600,
        "shm_format": 1,
        "mode": "A",
        "reason": "zero-copy; not B: only for windows that take buffers in turn",
        "frames": 7,
        "bytes_copied": 0,
        **other,
    }


def document(*surfaces: dict[str, Any], **other: Any) -> dict[str, Any]:
    """A document with these surfaces; by default of a proxy that is well."""
    clients = sorted({surface["client_id"] for surface in surfaces})
    return {
        "version": "0.1.0",
        "name": "work",
        "state": "serving",
        "hint": "",
        "agent": "wlproxy-guest 0.1.0",
        "uptime": 7988.5,
        "qemu": {"pid": 4711, "program": "qemu-system-x86_64"},
        "compositor": "/run/user/1000/wayland-1",
        "compositor_there": True,
        "isolated": True,
        "remarks": [],
        "clients": [{"client_id": number, "closing": False} for number in clients],
        "surfaces": list(surfaces),
        "metrics": {"udmabufs_alive": 3, "pixel_bytes_copied": 0},
        **other,
    }


def screen(*surfaces: dict[str, Any]) -> dict[str, Any]:
    """What is said of the machine's own screens; by default of one, in mode A."""
    surface = {
        "console": 0,
        "title": "[work] screen",
        "width": 720,
        "height": 400,
        "mode": "A",
        "reason": "in place (mode A)",
        "hidden": False,
        "frames": 12,
        "updates": 90,
        "bytes_copied": 0,
    }
    return {
        "version": "0.1.0",
        "uptime": 61.5,
        "compositor": "/run/user/1000/wayland-1",
        "isolated": False,
        "surfaces": [{**surface, **each} for each in surfaces or ({},)],
    }
