"""Finds the guest's bytes in the host's files: pure arithmetic over guest-physical addresses."""
