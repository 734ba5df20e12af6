"""A demonstration that needs nothing: one photograph in, a bad film of it out, and its repair."""
