"""A page in the browser for choosing faces and settings, served to this machine alone."""
