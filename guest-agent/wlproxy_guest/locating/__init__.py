"""Finds the guest-physical addresses of apps' files, and keeps the pages in place.

* `locations`: what one app has pinned, and when a pin is dropped;
* `module_locator`: asks the kernel module, by `gem_locate`;
* `page_locator`: does without it: `mapping` maps the file, `pin` holds its pages, `pagemap` reads
  where they are;
* `grant_locator`: in a domain of Xen's, has another module grant the pages, by `gem_grant`;
* `locators`: which of them is for this machine;
* `fences`: waits for what a GPU still draws.
"""
