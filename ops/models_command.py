"""`modelkeep models`: what it takes and what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.console import Reporter, print_json
from ops.targets import find_target

app = typer.Typer(no_args_is_help=True, help="Model artefacts: published, signed, verified, served.")
StackOption = Annotated[
    str, typer.Option("--stack", help="A stack that is up on this machine, or one deployed to AWS.")
]

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Until every instance serves it.")]


@app.command("list")
def list_models(
    stack: StackOption = "local",
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Every published version: which is served, and whether the stack's key signed it."""
    from ops.published import list_published
    from ops.serving import served_versions

    target = find_target(stack)
    found = list_published(target, served=served_versions(target))
    if json:
        print_json([each.public() for each in found])
    for each in [] if json else found:
        manifest = each.manifest
        state = "served" if each.served else "-"
        typer.echo(f"{manifest.name}\t{manifest.version}\t{','.join(manifest.tasks)}\t{state}\t{each.signature}")


@app.command()
def publish(directory: Path, stack: StackOption = "local") -> None:
    """Upload an artefact directory to the stack's models bucket and sign it with the stack's key."""
    from model_image.artefacts import publish as publish_artefact
    from ops.published import signer_of

    target = find_target(stack)
    bucket = target.output("model_bucket")
    typer.echo(publish_artefact(target.client("s3"), bucket, directory, signer=signer_of(target)))


@app.command()
def verify(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="A directory, or s3://BUCKET/NAME/VERSION.")],
    stack: Annotated[
        str | None,
        typer.Option("--stack", help="The stack whose key must have signed it; needed for what is in a bucket."),
    ] = None,
) -> None:
    """Check every file of a model against its manifest, and who signed that."""
    from ops.published import signer_of, verify_directory, verify_published

    is_remote = place.startswith("s3://")
    if is_remote and stack is None:
        raise typer.BadParameter("a model in a bucket is verified with a stack's key: name it", param_hint="--stack")
    target = None if stack is None else find_target(stack)
    trusted = [] if target is None else [signer_of(target).public_key()]
    if is_remote and target is not None:
        manifest, is_signed = verify_published(target.client("s3"), place, trusted=trusted), True
    else:
        manifest, is_signed = verify_directory(Path(place), trusted=trusted)
    signed = f"signed by the key of stack {stack}" if is_signed else "its signature was not asked for (--stack)"
    typer.echo(f"{manifest.name} {manifest.version}: {len(manifest.files)} files as the manifest says, {signed}")


@app.command()
def promote(name: str, version: str, stack: StackOption = "local", wait: Wait = True) -> None:
    """Serve a published version: verified here, then brought to the instances one after the other."""
    from ops import serving

    target, report = find_target(stack), Reporter()
    manifest, rollout = serving.promote(target, name=name, version=version)
    report.line(f"{manifest.name} {manifest.version}: {len(manifest.files)} files verified, signed by the stack's key")
    if wait:
        with report.progress("instances are replaced") as advance:
            serving.wait(target, rollout, on_progress=advance)
    typer.echo(f"{name} {rollout.served[name]}")


@app.command()
def rollback(name: str, stack: StackOption = "local", wait: Wait = True) -> None:
    """Serve the version before the last promotion again."""
    from ops import serving

    target, report = find_target(stack), Reporter()
    rollout = serving.roll_back(target, name=name)
    if wait:
        with report.progress("instances are replaced") as advance:
            serving.wait(target, rollout, on_progress=advance)
    typer.echo(f"{name} {rollout.served[name]}")
