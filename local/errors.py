"""The one exception family of the local engine, emulators, fleet and edge."""


class LocalError(Exception):
    """Something on this machine failed; the message is one line naming the thing, its value and the remedy."""
