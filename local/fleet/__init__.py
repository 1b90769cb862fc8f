"""What no emulator has: the instances of an auto scaling group, as real server processes on this machine."""

from local.fleet.instance import InstanceStatus
from local.fleet.supervisor import Fleet

__all__ = ["Fleet", "InstanceStatus"]
