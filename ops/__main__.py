"""`python -m ops` is the `modelkeep` command."""

from ops.cli import main

main()
