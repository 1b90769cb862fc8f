"""The states of Batch's jobs as whoever runs them tells the emulator."""

STATE_TAG = "local:job-state"  # of a job; its value: JSON of status, and where there are any exitCode and reason
QUEUED, ENDED = "RUNNABLE", frozenset({"SUCCEEDED", "FAILED"})
