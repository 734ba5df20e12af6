"""Both stages of VQFR: networks, losses, discriminators, and what one step computes."""
