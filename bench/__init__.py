"""`make bench`: what wlproxy costs, beside a direct connection and beside waypipe.

Everything is measured in one run, peer after peer and round after round, on one kernel.

* `__main__`: the command line; `rounds`: who is measured when; `workloads`: what is done;
  `seats`: what is done with a `pointer`, a terminal and a list; `clipboard`: what is copied
  and pasted; `measuring`: what a workload costs a peer.
* `client`: the app; `peers`: who stands between it and the compositor; `processes`: how these
  are started; `agent` and `proxy`: wlproxy's two ends, with what a VM would be replaced,
  and a `note` from one to the other.
* `counting`: CPU, memory and system calls, from /proc and strace; `machine`: which one it was.
* `results`: samples, medians, spreads; `report`: the table, with `targets` and `growth` before and
  after it; `plots`: the pictures.  `shares`: whose the CPU time is, by what `sampled` sees.
* `relay`: the core alone, on a stage and with what real apps said: `record` runs an app, and
  `scrubbing` takes out what is nobody's business; `recording` is
  its file, `conversation` what the messages in it mean; `replay` plays it to a relay, and
  `habits` counts what its app does with buffers.
* `guest`: modes A, B and C with the lab's guest, in which `guest_app` runs the same workloads.
"""
