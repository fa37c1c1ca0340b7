"""Where the bytes of apps' files are in guest-physical memory, and keeping them there."""
