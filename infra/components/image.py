"""The container image: its registry, and the build of this project's own source."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path

import pulumi
import pulumi_aws as aws
import pulumi_docker_build as docker_build
from pulumi import InvokeOptions, ResourceOptions

from infra.components.keys import EncryptionKey, EncryptionKeyArgs, administered_by_iam, used_through
from infra.field_types import Variant
from infra.fleet_settings import FleetSettings
from infra.iam import Statement
from infra.site import Site

KEEP_IMAGES = 20
# What the Dockerfile copies; .dockerignore lets nothing else into the build.
_SOURCES = ("pyproject.toml", "LICENSE", "model_image")


def source_digest(root: Path) -> str:
    """SHA-256 (hex) over the names and contents of everything that goes into the image."""
    digest = hashlib.sha256()
    for path in _source_files(root):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\\0{len(content)}\\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _source_files(root: Path) -> Iterable[Path]:
    for source in (root / name for name in _SOURCES):
        files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
        yield from (path for path in files if "__pycache__" not in path.parts)


def build_arguments(*, variant: Variant, wheel_index: str | None) -> dict[str, str]:
    """The Dockerfile's arguments; those that are not here keep their defaults, which the sources' digest covers."""
    return {"VARIANT": variant, **({"WHEEL_INDEX": wheel_index} if wheel_index else {})}


def image_tag(root: Path, arguments: Mapping[str, str]) -> str:
    """A tag that says what an image holds, since it never moves: the same for the same sources and arguments alone."""
    content = json.dumps([source_digest(root), dict(sorted(arguments.items()))])
    return f"{arguments['VARIANT']}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def repository_arn(site: Site, reference: str) -> str:
    """The ARN of the ECR repository that an image reference names, be it in this account or another."""
    registry, _, path = reference.partition("/")
    account, _, _, region = registry.split(".")[:4]
    return f"arn:{site.partition}:ecr:{region}:{account}:repository/{path.partition('@')[0]}"


@dataclass(frozen=True)
class ImageArgs:
    """The fleet that runs the image: a ready one by digest, or one built in the variant that its instances need.

    Without `protect_data` the registry goes with its images when the stack does.
    """

    site: Site
    fleet: FleetSettings
    protect_data: bool


class Image(pulumi.ComponentResource):
    """A registry of immutable, scanned, encrypted images, and the reference by digest of the one to run."""

    repository_url: pulumi.Output[str]
    reference: pulumi.Output[str]

    def __init__(self, name: str, args: ImageArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Image", name, None, opts)
        self._name, self._args, ready = name, args, args.fleet.image
        key = EncryptionKey(
            f"{name}-key",
            EncryptionKeyArgs(
                site=args.site,
                purpose="container images",
                policy=[administered_by_iam(args.site), *used_through(args.site, "ecr", grants=True)],
            ),
            opts=ResourceOptions(parent=self),
        )
        repository = aws.ecr.Repository(
            f"{name}-repository",
            name=f"{args.site.name}/model-server",
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration={"scan_on_push": True},
            encryption_configurations=[{"encryption_type": "KMS", "kms_key": key.arn}],
            force_delete=not args.protect_data,
            opts=ResourceOptions(parent=self),
        )
        arguments = build_arguments(variant=args.fleet.variant, wheel_index=args.fleet.wheel_index)
        tag = image_tag(args.site.root, arguments)
        aws.ecr.LifecyclePolicy(
            f"{name}-lifecycle",
            repository=repository.name,
            policy=pulumi.Output.json_dumps(lifecycle_policy(running=tag if ready is None else None)),
            opts=ResourceOptions(parent=self),
        )
        self.repository_url = repository.repository_url
        self._repository_arn: pulumi.Input[str] = repository.arn if ready is None else repository_arn(args.site, ready)
        self.reference = pulumi.Output.from_input(ready) if ready else self._build(repository, arguments, tag)
        self.register_outputs({"repository_url": self.repository_url, "reference": self.reference})

    def pull_statements(self) -> list[Statement]:
        """A grant to pull the image that runs."""
        return [
            Statement(
                sid="RegistryLogin",
                actions=["ecr:GetAuthorizationToken"],
                resources=["*"],  # the login is to the registry as a whole, the API knows no narrower resource
            ),
            pull_statement("PullImage", self._repository_arn),
        ]

    def _build(self, repository: aws.ecr.Repository, arguments: Mapping[str, str], tag: str) -> pulumi.Output[str]:
        root = relpath(self._args.site.root)  # relative, so that every machine has the same inputs
        login = aws.ecr.get_authorization_token_output(
            registry_id=repository.registry_id, opts=InvokeOptions(parent=self)
        )
        image = docker_build.Image(
            f"{self._name}-build",
            context={"location": root},
            dockerfile={"location": f"{root}/model_image/Dockerfile"},
            platforms=[docker_build.Platform.LINUX_AMD64],
            build_args=arguments,
            tags=[pulumi.Output.concat(repository.repository_url, ":", tag)],
            push=True,
            build_on_preview=False,
            registries=[
                {
                    "address": repository.repository_url,
                    "username": login.user_name,
                    "password": pulumi.Output.secret(login.password),
                }
            ],
            opts=ResourceOptions(parent=self),
        )
        return image.ref


def pull_statement(sid: str, repository_arn: pulumi.Input[str]) -> Statement:
    """A grant to pull from one repository, as AWS's own AmazonEC2ContainerRegistryPullOnly has it."""
    return Statement(
        sid=sid,
        actions=["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        resources=[repository_arn],
    )


def lifecycle_policy(*, running: str | None) -> dict[str, object]:
    """The newest images stay, for rolling back to, and the one tagged `running` does however old it is.

    An image that one rule selects is out of every later rule's reach, and a tag that never moves selects one image,
    of which there are never more than one: https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html
    """
    selections: list[dict[str, object]] = [{"tagStatus": "any", "countNumber": KEEP_IMAGES}]
    if running is not None:
        selections.insert(0, {"tagStatus": "tagged", "tagPatternList": [running], "countNumber": 1})
    return {
        "rules": [
            {
                "rulePriority": priority,
                "description": "keep what runs" if "tagPatternList" in each else f"keep the newest {KEEP_IMAGES}",
                "selection": {**each, "countType": "imageCountMoreThan"},
                "action": {"type": "expire"},
            }
            for priority, each in enumerate(selections, start=1)
        ]
    }
