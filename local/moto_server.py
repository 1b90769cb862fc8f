"""moto's server, with what it lacks for this stack; `python -m local.moto_server` runs it with moto's own options.

moto decodes the user data of a launch template's first version and forgets to for those that are added later, so that
an auto scaling group of such a version fails to launch. It knows no instance refreshes and no flush of
authorizers' caches, and runs no jobs of Batch without containers.
"""

import sys
from typing import Any

from moto.core.types import Base64EncodedString
from moto.ec2.models.launch_templates import LaunchTemplate
from moto.ec2.utils import parse_user_data
from moto.server import main

from local import authorizer_caches, batch_environments, batch_jobs, instance_refreshes

_create_version = LaunchTemplate.create_version


def create_version(self: LaunchTemplate, data: dict[str, Any], description: str) -> Any:
    """A version whose user data is what the rest of moto expects."""
    user_data = data.get("UserData")
    if user_data is not None and not isinstance(user_data, Base64EncodedString):
        data = {**data, "UserData": parse_user_data(user_data)}
    return _create_version(self, data, description)


if __name__ == "__main__":
    LaunchTemplate.create_version = create_version  # type: ignore[method-assign]
    instance_refreshes.install()
    batch_environments.install()
    batch_jobs.install()
    authorizer_caches.install()
    main(sys.argv[1:])
