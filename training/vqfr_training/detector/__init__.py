"""The face detector: its scenes, its training and its evaluation."""
