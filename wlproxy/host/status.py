"""Describes the whole proxy in plain values: the document that the status socket sends."""

from dataclasses import asdict
from typing import Final

from wlproxy import __version__
from wlproxy.host.client.client import Client
from wlproxy.host.desktop.desktop import Desktop
from wlproxy.host.pages import Vmm
from wlproxy.host.report.metrics import Metrics
from wlproxy.host.report.progress import Progress
from wlproxy.host.report.status_socket import Json
from wlproxy.host.session import Session
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.relay.formats import drm_format
from wlproxy.relay.holdings import ClientHoldings

SCHEMA: Final = 1
"""The number of `report/status.schema.json`, which says what is in the document.  A key that is renamed,
removed or means something else raises it; a new key needs a line there."""


def take_snapshot(
    name: str,
    uptime: float,
    progress: Progress,
    desktop: Desktop,
    metrics: Metrics,
    qemu: Vmm | None,
    agent: str,
    session: Session | None,
) -> dict[str, Json]:
    """Make the document.

    Args:
        name: of the VM.
        uptime: of the proxy, seconds.
        progress: what it is doing.
        desktop: the compositor.
        metrics: what was counted.
        qemu: None while there is none.
        agent: what the guest's agent says it is; not to be trusted.
        session: None while there is none.
    """
    totals = metrics.totals()
    totals["open_fds"] = session.open_handles if session else 0
    clients: list[Json] = []
    surfaces: list[Json] = []
    if session is not None:
        left = session.relay.holdings().clients
        clients = [
            _client(each, left.get(each.client_id), metrics) for each in session.clients
        ]
        surfaces = [asdict(surface) for surface in session.relay.surfaces()]
    return {
        "schema": SCHEMA,
        "version": __version__,
        "name": name,
        "state": progress.state.value,
        "hint": progress.hint,
        "agent": agent,
        "uptime": uptime,
        "qemu": asdict(qemu) if qemu else None,
        "compositor": str(desktop.path),
        "compositor_there": desktop.there,
        "isolated": desktop.isolated,
        "clock": session.clock() if session else None,
        "remarks": [remark.text for remark in desktop.remarks],
        "capabilities": _capabilities(desktop.capabilities),
        "launchers": session.launchers.users if session else [],
        "clients": clients,
        "surfaces": surfaces,
        "metrics": totals,
    }


def _client(client: Client, left: ClientHoldings | None, metrics: Metrics) -> Json:
    return {
        "client_id": client.client_id,
        "label": client.label,
        "closing": client.closed is not None,
        "streams": client.stream_count,
        "buffers": len(left.buffers) if left else 0,
        "locations": left.locations if left else 0,
        "waits": left.stalled if left else False,
        "bytes_to_compositor": client.to_compositor.unsent_bytes,
        "bytes_held": client.usage.held,
        "credit_from_guest": client.usage.credit,
        "pixel_bytes_copied": metrics.client_pixel_bytes[client.client_id],
    }


def _capabilities(capabilities: CompositorCapabilities) -> Json:
    """Make a document of what the compositor accepts."""
    return {
        "shm_udmabuf": capabilities.shm_udmabuf,
        "shm_udmabuf_reason": capabilities.shm_udmabuf_reason,
        "dmabuf_stride_alignment": {
            fourcc.to_bytes(4, "little").decode(errors="replace"): alignment
            for fourcc, alignment in capabilities.dmabuf_stride_alignment.items()
        },
        "dmabuf_reason": capabilities.dmabuf_reason,
        "shm_formats": tuple(
            drm_format(each).to_bytes(4, "little").decode(errors="replace")
            for each in sorted(capabilities.shm_formats)
        ),
        "udmabuf_list_limit": capabilities.udmabuf_list_limit,
        "udmabuf_size_limit": capabilities.udmabuf_size_limit,
        "globals": dict(capabilities.global_versions),
    }
