"""`python -m vqfr_media`: the same as the command `vqfr-media`."""

from vqfr_media.cli import main

if __name__ == "__main__":
    main()
