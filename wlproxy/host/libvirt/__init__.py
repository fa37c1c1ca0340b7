"""Domains of libvirt: how they are set up for wlproxy, and where channel and RAM of one are.

libvirt is asked by its own client, `virsh` (`virsh`); what a domain is like is its XML
(`markup`, `domain`), which is judged (`finding`) and changed (`setup`, with `elements`).
"""
