"""The one exception family of the operator's command line."""


class OpsError(Exception):
    """A command cannot do what was asked; the message is one line naming the thing, its value and the remedy."""
