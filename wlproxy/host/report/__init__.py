"""What the proxy reports about itself: its log, its counters, and its status."""
