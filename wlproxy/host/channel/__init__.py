"""The wire to a VM: connected to or listened for, by a Unix socket or by vsock.

The frames on it are the same, and the business of `host.link`.
"""
