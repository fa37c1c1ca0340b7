"""KDE's server-side decorations, as pywayland would have them if it had KDE's protocols."""

from typing import Any

from pywayland.protocol.wayland import WlSurface
from pywayland.protocol_core.argument import (  # type: ignore[attr-defined]
    Argument,
    ArgumentType,
)
from pywayland.protocol_core.interface import Interface
from pywayland.protocol_core.proxy import Proxy


class KdeDecoration(Interface):
    """The decoration of one surface."""

    name = "org_kde_kwin_server_decoration"
    version = 1


class KdeDecorationManager(Interface):
    """The global."""

    name = "org_kde_kwin_server_decoration_manager"
    version = 1


class _DecorationProxy(Proxy[KdeDecoration]):
    interface = KdeDecoration

    @KdeDecoration.request()
    def release(self) -> None:
        self._marshal(0)
        self._destroy()

    @KdeDecoration.request(Argument(ArgumentType.Uint))
    def request_mode(self, mode: int) -> None:
        self._marshal(1, mode)


class _ManagerProxy(Proxy[KdeDecorationManager]):
    interface = KdeDecorationManager

    @KdeDecorationManager.request(
        Argument(ArgumentType.NewId, interface=KdeDecoration),
        Argument(ArgumentType.Object, interface=WlSurface),
    )
    def create(self, surface: Any) -> Any:
        return self._marshal_constructor(0, KdeDecoration, surface)


def _mode(_source: Any, _mode: int) -> None: ...


_mode.__name__ = "mode"
KdeDecoration.event(Argument(ArgumentType.Uint))(_mode)
_mode.__name__ = "default_mode"
KdeDecorationManager.event(Argument(ArgumentType.Uint))(_mode)
for _kind, _proxy in (
    (KdeDecoration, _DecorationProxy),
    (KdeDecorationManager, _ManagerProxy),
):
    _kind._gen_c()
    _kind.proxy_class = _proxy
