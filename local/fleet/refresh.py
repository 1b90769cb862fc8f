"""An instance refresh: instances of another launch template are replaced, one at a time, the new one first."""

from collections.abc import Mapping

from local.fleet.deployed import Group


class Refresh:
    """What is to be replaced, and which instance still serves though its group has terminated it.

    That is a refresh with a minimum healthy percentage of 100: an instance goes once the one in its place is ready, and
    where that never becomes ready, it stays. One thread asks; `begin` may be called by another.
    """

    def __init__(self) -> None:
        self._templates: dict[str, Mapping[str, str]] = {}
        self._held: str | None = None
        self.active = False

    def begin(self, *, everything: bool) -> None:
        """Replace what is not of the group's template; `everything` means what is, too."""
        if everything:
            self._templates = {}
        self.active = True

    def launched(self, instance_id: str, *, template: Mapping[str, str]) -> None:
        """An instance was started from this version of a template."""
        self._templates[instance_id] = dict(template)

    def forget(self, instance_id: str) -> None:
        """The instance is gone."""
        self._templates.pop(instance_id, None)
        if self._held == instance_id:
            self._held = None

    def holds(self, instance_id: str) -> bool:
        """Whether the instance goes on serving until another is ready in its place."""
        return instance_id == self._held

    def next(self, group: Group, *, ready: set[str]) -> str | None:
        """The instance that the group is to replace now; None while the last one's successor is not ready yet."""
        if not self.active or not ready >= set(group.instance_ids) or len(group.instance_ids) < group.desired:
            return None
        self._held = None
        outdated = (one for one in group.instance_ids if self._templates.get(one) != dict(group.template))
        found = next(outdated, None)
        self.active = found is not None
        return found

    def terminated(self, instance_id: str) -> None:
        """The group has terminated the instance and made another, in whose place it serves until that is ready."""
        self._held = instance_id
