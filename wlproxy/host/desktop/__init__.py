"""The host's desktop: its compositor, what that accepts, and the device that makes dma-bufs."""
