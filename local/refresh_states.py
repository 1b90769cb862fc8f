"""How an instance refresh goes on, as who runs the instances tells the emulator; kept apart from both."""

STATUS_TAG = "local:instance-refresh"  # of the group; its value: the refresh's id, a blank, its status
OPEN = frozenset({"Pending", "InProgress"})
