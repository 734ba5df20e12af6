"""Our own operators, and how engines take them in."""
