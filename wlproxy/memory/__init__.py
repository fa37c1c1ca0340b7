"""Where the guest's bytes are: pure arithmetic over guest-physical addresses."""
