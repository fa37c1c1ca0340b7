"""`xdg_toplevel`: titles and app ids carry the VM's name.

A person must be able to tell a guest's window from the host's own.
"""

from typing import Final

from wlproxy.relay.state import ClientState, Request
from wlproxy.relay.surfaces import Surface

MAX_LABEL: Final = 1024
"""Bytes of a title or app id that are passed on; always whole UTF-8 characters."""


def get_xdg_surface(state: ClientState, request: Request) -> None:
    """`xdg_wm_base.get_xdg_surface`: remember whose surface it is."""
    surface = state.context.objects.guest(request.message.integer(1)).role
    created = state.forward(request)
    assert created is not None
    created.role = surface


def get_toplevel(state: ClientState, request: Request) -> None:
    """`xdg_surface.get_toplevel`: label the window before the app says anything."""
    created = state.forward(request)
    assert created is not None
    created.role = request.entry.role
    _surface(request).is_window = True
    vm_name = state.context.config.vm_name.encode()
    state.context.send(created, "set_title", (b"[%s]" % vm_name,))
    state.context.send(created, "set_app_id", (vm_name,))


def set_title(state: ClientState, request: Request) -> None:
    """`set_title`: "[VM] title"."""
    text = _text(request)
    _surface(request).title = text
    vm_name = state.context.config.vm_name.encode()
    state.forward(request, (b"[%s] %s" % (vm_name, text.encode()),))


def set_app_id(state: ClientState, request: Request) -> None:
    """`set_app_id`: "VM.app_id"."""
    text = _text(request)
    _surface(request).app_id = text
    vm_name = state.context.config.vm_name.encode()
    state.forward(request, (b"%s.%s" % (vm_name, text.encode()),))


def set_activating_app_id(state: ClientState, request: Request) -> None:
    """`xdg_activation_token_v1.set_app_id`: the same, of who wants attention."""
    vm_name = state.context.config.vm_name.encode()
    state.forward(request, (b"%s.%s" % (vm_name, _text(request).encode()),))


def _surface(request: Request) -> Surface:
    role = request.entry.role
    assert isinstance(role, Surface)  # as its xdg_surface was given it
    return role


def _text(request: Request) -> str:
    """Read a title or app id; compositors may end a client for one that is no UTF-8."""
    return request.message.array(0)[:MAX_LABEL].decode("utf-8", "ignore")
