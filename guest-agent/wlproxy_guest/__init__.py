"""The guest's half of wlproxy.

It accepts Wayland clients, carries their bytes and fds to the host over a virtio port,
and tells the host where in guest memory their buffers are.  It does not understand Wayland.

From an fd to an address: `attachments` (what is this fd?), `memories` (kept for the host),
`hanging_files`, `locating`, `drm`.
From an app to the host: `unix_socket`, `client`, `streams`, `files`, `session`, `link`,
`wire`.  Around them: `quotas`, `refusal`, `workers`, `logs`, `server`, `cli`.
"""
