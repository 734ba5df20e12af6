"""`vqfr-media doctor`."""

from dataclasses import dataclass

from vqfr_media.cli.console import echo


@dataclass(frozen=True)
class DoctorCommand:
    """Say what this machine can do and what is missing."""


def doctor() -> int:
    """Says what this machine can do, and what is missing."""
    from vqfr_media.doctor import examine

    for check in examine():
        echo(f"{check.verdict:8} {check.topic:20} {check.detail}")
    return 0
