"""Both stages of VQFR: what is built, what a step computes, what judges it."""
