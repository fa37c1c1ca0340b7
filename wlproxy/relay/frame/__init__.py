"""The frame around a VM's windows: six strips of one colour, which the guest cannot reach.

* `boxes`: rectangles; `layout`: where the strips are, and what a size is within a frame;
* `tree`: surfaces and their subsurfaces: what is shown, and what may be;
* `strips`: the strips as objects of the compositor; `window`: a window and its frame;
* `frames`: all of one client, told by `relay.filters` what its app does.

A window's strips are subsurfaces of its surface that the guest has no ids for.  They are above
all others, and in step with the surface: a new layout is shown by the commit that it is for.
Nothing is sent for frames that change no layout.
"""
