"""Xen: pages that a domain grants to ours, in place of RAM that is a file.

* `domain`: which domain is at the other end of a channel;
* `gntdev`: /dev/xen/gntdev, which makes a fd of granted pages;
* `lending`: the same by a process that alone may open it;
* `grant_pages`: the page source that all else in the proxy uses;
* `vchan`: a domain's vchan, for the process that joins it with a channel's socket;
* `xl_config`: lines for `xl.cfg`.
"""
