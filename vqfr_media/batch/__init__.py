"""Many files: found, worked one after the other or side by side, and told of in one report."""
