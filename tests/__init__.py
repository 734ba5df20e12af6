"""A package of its own name: another project installs its tests as `tests`."""
