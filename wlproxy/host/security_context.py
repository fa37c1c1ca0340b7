"""A listener of our own at the compositor, whose clients it knows to be a guest's.

wp_security_context_v1 of wayland-protocols (staging).  A pywayland client commits the
context once; later connections go to `path`.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

ENGINE = "org.wlproxy"


class SecurityContext:
    """A committed context.  Closing it makes the compositor stop listening."""

    def __init__(self, compositor: Path, app_id: str, instance_id: str) -> None:
        """Commit a context.  Blocks: run it in a thread.

        Args:
            compositor: its socket.
            app_id: names the application for the compositor's policy.
            instance_id: names the VM.

        Raises:
            NoCompositorError: nobody listens there.
            SecurityContextError: the compositor does not have the protocol, or refused.
        """
        raise NotImplementedError

    @property
    def path(self) -> Path:
        """Where clients of this context connect."""
        raise NotImplementedError

    def close(self) -> None:
        """End the context; connections made through it stay."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
