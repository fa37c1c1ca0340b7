"""Wayland objects and messages of one client, translated.  Buffers are not known here."""
