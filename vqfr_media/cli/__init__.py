"""Every command; only this package prints or exits."""

from vqfr_media.cli.main import exit_code as exit_code
from vqfr_media.cli.main import main as main
from vqfr_media.cli.main import run as run
