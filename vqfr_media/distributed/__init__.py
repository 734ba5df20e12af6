"""Many machines: the segments of long videos and whole short files as tasks on a Ray cluster."""
