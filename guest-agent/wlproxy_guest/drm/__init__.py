"""The guest's DRM devices: which one apps should allocate on, and how buffers are laid out."""
