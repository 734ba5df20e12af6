"""The stages that restore a frame's faces, streamed and at random access."""
