import json
import re
import shutil
from pathlib import Path
from typing import Any

from infra.components.image import (
    KEEP_IMAGES,
    build_arguments,
    image_tag,
    lifecycle_policy,
    repository_arn,
    source_digest,
)
from infra.instance_types import ami_parameter, has_amd_gpu, has_gpu, is_arm
from infra.site import Site
from infra.user_data import CONTAINER_USER, PORT

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "model_image" / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    lines = re.sub(r"\\\n", " ", DOCKERFILE).splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line and not line.startswith("#")]


def test_the_image_is_multi_stage_from_arguments() -> None:
    bases = [value for name, value in instructions() if name == "FROM"]
    assert len(bases) == 2
    assert all(base.startswith("${") for base in bases)


def test_the_image_runs_as_the_user_that_the_instance_expects_without_a_shell() -> None:
    last = dict(instructions())
    assert last["USER"] == f"{CONTAINER_USER}:{CONTAINER_USER}"
    assert last["EXPOSE"] == str(PORT)
    assert last["ENTRYPOINT"] == '["python", "-m", "model_image"]'
    assert last["CMD"] == '["serve"]'


def test_the_build_sees_only_what_the_digest_covers(tmp_path: Path) -> None:
    admitted = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name in admitted:
        source = ROOT / name
        target = tmp_path / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.write_bytes(source.read_bytes())
    assert source_digest(tmp_path) == source_digest(ROOT)


def test_the_digest_follows_names_and_contents_of_sources_only(tmp_path: Path) -> None:
    (tmp_path / "model_image" / "__pycache__").mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", "model_image/a.py"):
        (tmp_path / name).write_text(name)
    first = source_digest(tmp_path)
    (tmp_path / "model_image" / "__pycache__" / "a.pyc").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    assert source_digest(tmp_path) == first
    (tmp_path / "model_image" / "a.py").write_text("other")
    changed = source_digest(tmp_path)
    (tmp_path / "model_image" / "a.py").rename(tmp_path / "model_image" / "b.py")
    assert len({first, changed, source_digest(tmp_path)}) == 3


def test_a_tag_says_which_sources_and_arguments_it_was_built_from(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("a")
    arguments = [
        build_arguments(variant="cuda", wheel_index=None),
        build_arguments(variant="cpu", wheel_index=None),
        build_arguments(variant="cpu", wheel_index="https://wheels.example.com/cpu"),
    ]
    tags = [image_tag(tmp_path, each) for each in arguments]
    assert len({*tags}) == 3
    assert all(re.fullmatch(r"(cpu|cuda)-[0-9a-f]{16}", tag) for tag in tags)
    assert image_tag(tmp_path, dict(reversed(arguments[2].items()))) == tags[2]
    (tmp_path / "pyproject.toml").write_text("b")
    assert image_tag(tmp_path, arguments[0]) != tags[0]


def test_a_ready_image_is_pulled_from_the_repository_it_names(site: Site) -> None:
    reference = "210987654321.dkr.ecr.us-east-1.amazonaws.com/team/server@sha256:" + "0" * 64
    assert repository_arn(site, reference) == "arn:aws:ecr:us-east-1:210987654321:repository/team/server"


def test_what_runs_outlives_twenty_newer_images() -> None:
    running, newest = lifecycle_policy(running="cuda-0123456789abcdef")["rules"]  # type: ignore[misc]
    assert running["selection"] == {
        "tagStatus": "tagged", "tagPatternList": ["cuda-0123456789abcdef"], "countType": "imageCountMoreThan",
        "countNumber": 1,
    }  # fmt: skip
    # The rule that takes images away comes last, and so never reaches what the first has selected.
    assert running["rulePriority"] < newest["rulePriority"]
    assert newest["selection"] == {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": KEEP_IMAGES}
    (alone,) = lifecycle_policy(running=None)["rules"]  # type: ignore[misc]
    assert alone["selection"] == newest["selection"]


def test_the_policy_keeps_the_tag_that_is_built(graph: Any) -> None:
    arguments = graph.one("docker-build:index:Image")["inputs"]["buildArgs"]
    lifecycle = json.loads(graph.one("ecr/lifecyclePolicy:LifecyclePolicy")["inputs"]["policy"])
    assert lifecycle["rules"][0]["selection"]["tagPatternList"] == [image_tag(ROOT, arguments)]


def test_instance_types_say_what_they_are() -> None:
    assert [has_gpu(each) for each in ("g6e.xlarge", "p5.48xlarge", "gr6.4xlarge", "m7i-flex.large", "c7g.large")] == [
        True, True, True, False, False,
    ]  # fmt: skip
    assert [is_arm(each) for each in ("c7g.large", "g5g.xlarge", "g6.xlarge", "c7gn.large", "m7i.large")] == [
        True, True, False, True, False,
    ]  # fmt: skip
    assert [has_amd_gpu(each) for each in ("g4ad.xlarge", "g4dn.xlarge", "m7a.large")] == [True, False, False]
    assert not has_gpu("g4ad.xlarge")
    assert ami_parameter(["g6.xlarge"]).endswith("/amazon-linux-2023/gpu/recommended/image_id")
    assert ami_parameter(["m7i.large"]).endswith("/amazon-linux-2023/recommended/image_id")
