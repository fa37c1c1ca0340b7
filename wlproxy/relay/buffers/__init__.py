"""Buffers of the guest: where they are, how they are shown, when they are let go of."""
