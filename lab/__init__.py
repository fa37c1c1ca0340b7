"""The lab: a host with a guest inside, on a machine that may be neither.

It builds two Debian images once, boots the first under QEMU as the *host* (with
``/dev/udmabuf``, weston and the proxy's dependencies) and a second one inside it as
the *guest*, and runs commands there.  ``python3 -m lab --help`` lists the commands;
``lab/README.md`` says how it works.

Nothing here imports wlproxy, and nothing here is part of the installed product.
"""
