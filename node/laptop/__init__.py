"""``meridian demo --regions ..``: a cluster of real processes on this machine that can be broken while it runs."""
