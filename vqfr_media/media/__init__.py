"""Reading and writing video and images; the only place that imports av."""
