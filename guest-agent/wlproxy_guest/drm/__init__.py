"""What the guest's DRM devices mean to apps: where to allocate, and how it lies there."""
