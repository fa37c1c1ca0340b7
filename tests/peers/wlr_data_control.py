"""wlroots' data control, as pywayland would have it if it had their protocols: its messages are those of ext's."""

from pywayland.protocol.ext_data_control_v1 import ExtDataControlManagerV1
from pywayland.protocol_core.interface import Interface


class WlrDataControlManager(Interface):
    """The global; what it makes answers to ext's names."""

    name = "zwlr_data_control_manager_v1"
    version = 2


class _ManagerProxy(ExtDataControlManagerV1.proxy_class):  # type: ignore[misc,valid-type]
    interface = WlrDataControlManager


WlrDataControlManager.requests = ExtDataControlManagerV1.requests
WlrDataControlManager._gen_c()
WlrDataControlManager.proxy_class = _ManagerProxy
