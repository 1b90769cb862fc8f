"""What remains of prowler's findings on a stack, once what is muted in writing is taken off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from ops.audit.findings import PASSED, Finding
from ops.audit.mutes import Mute, Mutes, Unjudged
from ops.audit.ownership import Owned, StackResources
from ops.audit.services import deployed_services, without_service

Entry = Mute | Unjudged


@dataclass(frozen=True)
class Obstacle:
    """Something that was not judged: where, and what prowler said of it."""

    at: str
    says: str


@dataclass(frozen=True)
class On:
    """A finding on a resource of the stack."""

    finding: Finding
    owned: Owned


@dataclass(frozen=True)
class Audit:
    """The outcome for one stack.

    `elsewhere` are failures of the account or of what is not the stack's, `doubtful` passes for want of an answer, and
    `void` entries that rely on a check which does not pass.
    """

    stack: str
    checks: int
    judged: frozenset[Owned]
    passed_findings: int
    doubtful: tuple[On, ...]
    remaining: tuple[On, ...]
    muted: tuple[tuple[On, Mute], ...]
    elsewhere: tuple[Finding, ...]
    unexplained: tuple[Obstacle, ...]
    explained: tuple[tuple[Obstacle, Unjudged], ...]
    expired: tuple[Mute, ...]
    unused: tuple[Entry, ...]
    void: tuple[Entry, ...]
    services: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the stack was judged and nothing is left to mend."""
        return bool(self.judged) and not (
            self.remaining or self.unexplained or self.expired or self.unused or self.void
        )


def judge(
    *,
    stack: str,
    checks: int,
    findings: Iterable[Finding],
    obstacles: Iterable[Obstacle],
    resources: StackResources,
    types: Iterable[str],
    mutes: Mutes,
    today: date,
) -> Audit:
    """The audit of a stack from what prowler found and could not do. `types` are those of AWS that are deployed.

    A mute is unused where it covers no finding, an explanation where nothing stood in the way; one that has expired or
    relies on what does not pass covers nothing.
    """
    types = list(types)
    own, elsewhere = _split(findings, resources)
    hindrances = [*dict.fromkeys(obstacles), *_silences(types, own)]
    written: list[Entry] = [*mutes.muted, *mutes.not_judged]
    entries = [each for each in written if each.is_for(stack)]
    void = [each for each in entries if not _all_pass(each.relies_on, own)]
    notes = [each for each in entries if isinstance(each, Unjudged) and each not in void]
    noted = [(each, _note(each, notes)) for each in hindrances]
    doubted = {check for _, note in noted if note is not None for check in note.checks}
    stated = [each for each in entries if isinstance(each, Mute)]
    valid = [each for each in stated if each.expires >= today and each not in void]
    failures = [each for each in own if each.finding.status != PASSED]
    answered = [(each, _mute(each, valid)) for each in failures]
    passes = [each for each in own if each.finding.status == PASSED]
    doubtful = [each for each in passes if each.finding.check in doubted]
    return Audit(
        stack=stack,
        checks=checks,
        judged=frozenset(each.owned for each in own),
        passed_findings=len(passes) - len(doubtful),
        doubtful=tuple(doubtful),
        remaining=tuple(each for each, mute in answered if mute is None),
        muted=tuple((each, mute) for each, mute in answered if mute is not None),
        elsewhere=tuple(elsewhere),
        unexplained=tuple(each for each, note in noted if note is None),
        explained=tuple((each, note) for each, note in noted if note is not None),
        expired=tuple(each for each in stated if each.expires < today),
        unused=_unused(valid, failures, notes, hindrances),
        void=tuple(void),
        services=tuple(deployed_services(types)),
    )


def _split(findings: Iterable[Finding], resources: StackResources) -> tuple[list[On], list[Finding]]:
    """The stack's findings, and what failed elsewhere; each the gravest first."""
    own: list[On] = []
    elsewhere: list[Finding] = []
    for finding in sorted(findings, key=lambda each: each.rank):
        owned = resources.owner(finding)
        if owned is not None:
            own.append(On(finding=finding, owned=owned))
        elif finding.status != PASSED:
            elsewhere.append(finding)
    return own, elsewhere


def _silences(types: Sequence[str], own: Sequence[On]) -> list[Obstacle]:
    """Services that said nothing of any resource of the stack, and deployed types that no service judges."""
    spoke = {each.finding.service for each in own}
    return [
        *(
            Obstacle(at=f"service:{service}", says="no check said anything of a resource of the stack")
            for service in deployed_services(types)
            if service not in spoke
        ),
        *(
            Obstacle(at=f"type:{each}", says="no service of prowler's for it in ops/audit/services.py")
            for each in without_service(types)
        ),
    ]


def _all_pass(checks: Iterable[str], own: Sequence[On]) -> bool:
    """Whether each of these checks was asked of the stack and failed nowhere in it."""
    answers = {check: {each.finding.status for each in own if each.finding.check == check} for check in checks}
    return all(statuses == {PASSED} for statuses in answers.values())


def _note(obstacle: Obstacle, notes: Sequence[Unjudged]) -> Unjudged | None:
    return next((each for each in notes if each.covers(obstacle.at)), None)


def _mute(found: On, mutes: Sequence[Mute]) -> Mute | None:
    return next((each for each in mutes if each.covers(found.finding, found.owned)), None)


def _unused(
    mutes: Sequence[Mute], failures: Sequence[On], notes: Sequence[Unjudged], hindrances: Sequence[Obstacle]
) -> tuple[Entry, ...]:
    return (
        *(mute for mute in mutes if not any(mute.covers(each.finding, each.owned) for each in failures)),
        *(note for note in notes if not any(note.covers(each.at) for each in hindrances)),
    )
