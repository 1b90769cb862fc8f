"""`modelkeep keys`: what it takes and what it says. Tokens go to standard output, or to a file, and nowhere else."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import Reporter, print_json
from ops.targets import find_target

if TYPE_CHECKING:
    from ops.key_summaries import Names
    from ops.keys import CreatedToken

app = typer.Typer(no_args_is_help=True, help="Consumers of the API and their tokens.")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

StackOption = Annotated[
    str, typer.Option("--stack", help="A stack that is up on this machine, or one deployed to AWS.")
]
PlanOption = Annotated[str, typer.Option("--plan", help="A usage plan of the stack.")]
ModelOption = Annotated[list[str] | None, typer.Option("--model", help="A model it may call; repeat; default all.")]
TaskOption = Annotated[list[str] | None, typer.Option("--task", help="A task it may call; repeat; default all.")]
CidrOption = Annotated[
    list[str] | None, typer.Option("--cidr", help="A block of addresses it may call from; repeat; default all.")
]
ContactOption = Annotated[str | None, typer.Option("--contact", help="Whom to tell, by e-mail.")]


def duration(text: str) -> timedelta:
    """A length of time such as 24h, 90d, 30m or 0; raises typer.BadParameter."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if found is None and text != "0":
        raise typer.BadParameter(f"{text} is no length of time; write one such as 24h, 90d or 0")
    return timedelta(0) if found is None else timedelta(**{_UNITS[found[2]]: int(found[1])})


ExpiresOption = Annotated[
    timedelta | None,
    typer.Option("--expires", parser=duration, metavar="90d", help="How long the token is good; default for ever."),
]


def _end(length: timedelta | None) -> datetime | None:
    return None if length is None else datetime.now(UTC) + length


@app.command()
def create(
    name: Annotated[str | None, typer.Argument(help="The consumer's name; none with --oidc.")] = None,
    *,
    plan: PlanOption,
    model: ModelOption = None,
    task: TaskOption = None,
    cidr: CidrOption = None,
    contact: ContactOption = None,
    expires: ExpiresOption = None,
    oidc: Annotated[bool, typer.Option("--oidc", help="For whoever signs in and has the plan; has no token.")] = False,
    stack: StackOption = "local",
) -> None:
    """Make a consumer and print its token, which is shown this once."""
    from ops import keys

    if oidc == (name is not None) or (oidc and expires is not None):
        raise typer.BadParameter("give a name, or --oidc, which has neither a name of its own nor a token to expire")
    target = find_target(stack)
    clients = target.key_clients()
    models: Names = model or "*"
    tasks: Names = task or "*"
    if name is None:
        made = keys.create_oidc_consumer(
            clients, target.outputs, plan=plan, models=models, tasks=tasks, source_cidrs=cidr or (), contact=contact
        )
        Reporter().line(f"{made}: whoever signs in and has plan {plan} calls by it")
        return
    created = keys.create_consumer(
        clients, target.outputs, name=name, plan=plan, models=models, tasks=tasks,
        expires=_end(expires), source_cidrs=cidr or (), contact=contact,
    )  # fmt: skip
    typer.echo(created.token)


@app.command("list")
def list_keys(
    stack: StackOption = "local",
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """The consumers of a stack; never a token."""
    from ops import keys

    target = find_target(stack)
    clients = target.key_clients()
    consumers = keys.list_consumers(clients, target.outputs)
    if json:
        print_json([consumer.public() for consumer in consumers])
    for consumer in [] if json else consumers:
        typer.echo("\t".join(str(value) for value in consumer.public().values()))
    if keys.is_frozen(clients, target.outputs):
        Reporter().line("the whole stack is frozen; modelkeep keys thaw --all lets callers in again")


@app.command()
def rotate(
    name: Annotated[str, typer.Argument(help="The consumer's name.")],
    overlap: Annotated[
        timedelta, typer.Option("--overlap", parser=duration, metavar="24h", help="How long the old token is good.")
    ] = "24h",  # type: ignore[assignment]  # typer gives its parser the text
    expires: ExpiresOption = None,
    stack: StackOption = "local",
) -> None:
    """Print a new token of a consumer, good at once; its old ones are good for the overlap, and its quota goes on."""
    from ops import keys

    target = find_target(stack)
    done = keys.rotate_token(target.key_clients(), target.outputs, name=name, overlap=overlap, expires=_end(expires))
    typer.echo(done.created.token)
    until = done.until.isoformat(timespec="seconds")
    kept = keys.kept_answers(target.outputs).seconds
    ending = "token ends" if done.retired == 1 else "tokens end"
    Reporter().line(f"{name}: {done.retired} older {ending} {until}, up to {kept} s later where in use then")


@app.command()
def revoke(
    token_file: Annotated[
        typer.FileText, typer.Argument(help="A file with the token, or its id; - for standard input.")
    ],
    stack: StackOption = "local",
) -> None:
    """Refuse a token from now on, as soon as the gateway's kept answer is over; says how long that may take."""
    from ops import keys

    target = find_target(stack)
    revoked = keys.revoke_token(target.key_clients(), target.outputs, token=token_file.read().strip())
    Reporter().line(f"token {revoked.id} is revoked: {keys.kept_answers(target.outputs).sentence()}")


@app.command("import")
def import_keys(
    file: Annotated[Path, typer.Argument(help="A .csv or .yaml file of consumers.", exists=True, dir_okay=False)],
    tokens: Annotated[
        Path | None, typer.Option("--tokens", help="A new file for the tokens, readable by you alone; default: print.")
    ] = None,
    stack: StackOption = "local",
) -> None:
    """Make the consumers of a file, all checked before the first is made; each token is shown once.

    Fields: name, plan, models, tasks, source_cidrs, contact, expires.
    """
    from ops import keys

    wanted = keys.read_consumers(file)
    target = find_target(stack)
    with _handing_out(tokens) as hand_out:
        made = keys.import_consumers(target.key_clients(), target.outputs, wanted, hand_out=hand_out)
    Reporter().line(f"{made} consumers made" + ("" if tokens is None else f"; their tokens are in {tokens}"))


@app.command()
def freeze(
    consumer: Annotated[str | None, typer.Option("--consumer", help="The consumer to refuse.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Every consumer, those to come as well.")] = False,
    stack: StackOption = "local",
) -> None:
    """Refuse a consumer, or everybody, in seconds."""
    _set_frozen(consumer, everybody=everybody, stack=stack, frozen=True)


@app.command()
def thaw(
    consumer: Annotated[str | None, typer.Option("--consumer", help="The consumer to let in again.")] = None,
    everybody: Annotated[
        bool, typer.Option("--all", help="The whole stack; consumers that are frozen themselves stay so.")
    ] = False,
    stack: StackOption = "local",
) -> None:
    """Let a consumer, or the whole stack, in again."""
    _set_frozen(consumer, everybody=everybody, stack=stack, frozen=False)


def _set_frozen(consumer: str | None, *, everybody: bool, stack: str, frozen: bool) -> None:
    from ops import keys

    if everybody == (consumer is not None):
        raise typer.BadParameter("give --consumer NAME or --all")
    target = find_target(stack)
    clients = target.key_clients()
    if consumer is None:
        effect = keys.freeze_stack(clients, target.outputs, frozen=frozen)
    else:
        effect = keys.freeze_consumer(clients, target.outputs, name=consumer, frozen=frozen)
    what = f"stack {stack}" if consumer is None else f"consumer {consumer}"
    Reporter().line(f"{what} is {'frozen' if frozen else 'let in again'}: {effect.sentence()}")


@contextlib.contextmanager
def _handing_out(path: Path | None) -> Iterator[Callable[[CreatedToken], None]]:
    """What gives tokens away: a line with consumer and token each, printed, or written to a new file at once."""
    if path is None:
        yield lambda created: typer.echo(f"{created.consumer}\t{created.token}")
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise typer.BadParameter(f"{path} exists; tokens go into a new file", param_hint="--tokens") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:

            def write(created: CreatedToken) -> None:
                file.write(f"{created.consumer}\t{created.token}\n")
                file.flush()
                os.fsync(file.fileno())

            yield write
    finally:
        if path.stat().st_size == 0:  # nothing was made, and the next try shall find no file
            path.unlink()
