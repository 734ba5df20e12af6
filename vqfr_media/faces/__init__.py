"""From a frame to its faces and back: detect, track, align, blend."""
