"""Many machines: segments of long videos and whole short files, restored on a Ray cluster."""
