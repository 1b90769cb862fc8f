"""What comes of personal data and secrets in what is pushed."""

from enum import StrEnum


class ScanMode(StrEnum):
    """What comes of a finding: a warning, a refusal before anything goes up, or nothing, as nothing is looked at."""

    WARN = "warn"
    REFUSE = "refuse"
    OFF = "off"
