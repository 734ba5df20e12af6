"""Many files: found, restored one after the other or several at once, recorded in one report."""
