"""What the proxy says of itself: its log, its counters, and the status that it gives away."""
