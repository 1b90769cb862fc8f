"""Tokens rotated, consumers imported and frozen; and what the commands say of it."""

import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from lambdas import tokens
from local.emulators import Emulators
from ops import keys_command
from ops.errors import OpsError
from ops.key_summaries import TokenSummary
from ops.keys import (
    Effect,
    create_oidc_consumer,
    freeze_consumer,
    freeze_stack,
    import_consumers,
    is_frozen,
    list_consumers,
    read_consumers,
    revoke_token,
    rotate_token,
)
from ops.targets import Target
from tests.ops.emulated_keys import CSV, REGION, Stack, create, make_stack, written

DAY = timedelta(hours=24)


@pytest.fixture(scope="module")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulators]:
    with Emulators(region=REGION, log_dir=tmp_path_factory.mktemp("emulators")) as running:
        yield running


@pytest.fixture
def stack(emulators: Emulators) -> Stack:
    return make_stack(emulators)


def tokens_of(stack: Stack, name: str = "alice") -> dict[str, TokenSummary]:
    """The consumer's tokens by their id."""
    found = {each.id: each for each in list_consumers(stack.clients, stack.outputs)}
    return {token.id: token for token in found[name].tokens}


def shown(token: str) -> str:
    return tokens.digest(token)[:12]


class TestRotation:
    def test_the_old_token_ends_with_the_overlap_and_the_new_one_is_good_at_once(self, stack: Stack) -> None:
        old = create(stack)
        before = stack.gateway_keys()
        done = rotate_token(stack.clients, stack.outputs, name="alice", overlap=DAY)
        held = tokens_of(stack)
        assert held[shown(done.created.token)].expires is None
        ends = held[shown(old.token)].expires
        assert ends is not None
        assert abs(ends - (datetime.now(UTC) + DAY)) < timedelta(minutes=1)
        assert (done.retired, abs(done.until - ends) < timedelta(seconds=1)) == (1, True)
        assert stack.gateway_keys() == before  # the quota is counted by the key, which stays
        assert done.created.token not in repr(done)

    def test_nothing_lives_longer_by_it(self, stack: Stack) -> None:
        soon = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
        old = create(stack, expires=soon)
        done = rotate_token(stack.clients, stack.outputs, name="alice", overlap=DAY)
        assert (done.retired, tokens_of(stack)[shown(old.token)].expires) == (0, soon)

    def test_twice_in_the_overlap_leaves_three_of_which_one_stays(self, stack: Stack) -> None:
        create(stack)
        create(stack, name="bob")
        rotate_token(stack.clients, stack.outputs, name="alice", overlap=DAY)
        last = rotate_token(stack.clients, stack.outputs, name="alice", overlap=timedelta(0))
        held = tokens_of(stack)
        assert len(held) == 3
        assert [each.id for each in held.values() if each.expires is None] == [shown(last.created.token)]
        assert all(each.expires is None for each in tokens_of(stack, "bob").values())

    def test_a_revoked_token_stays_so(self, stack: Stack) -> None:
        old = create(stack)
        revoke_token(stack.clients, stack.outputs, token=old.token)
        assert rotate_token(stack.clients, stack.outputs, name="alice", overlap=DAY).retired == 0
        assert tokens_of(stack)[shown(old.token)].status == "revoked"

    @pytest.mark.parametrize(
        ("name", "changes", "message"),
        [
            ("nobody", {}, "no consumer nobody in this stack"),
            ("oidc.demo", {}, "consumer oidc.demo has no token"),
            ("alice", {"overlap": -DAY}, "is negative; give 0"),
            ("alice", {"expires": datetime(2020, 1, 1, tzinfo=UTC)}, "is past or has no time zone"),
        ],
    )
    def test_what_cannot_be_is_refused(self, stack: Stack, name: str, changes: dict[str, Any], message: str) -> None:
        create(stack)
        before = stack.rows()
        with pytest.raises(OpsError, match=message):
            rotate_token(stack.clients, stack.outputs, **{"name": name, "overlap": DAY, **changes})
        assert stack.rows() == before

    def test_a_token_revoked_meanwhile_leaves_all_as_it_was(self, stack: Stack) -> None:
        old = create(stack)

        class Racing:
            def __getattr__(self, name: str) -> Any:
                if name == "transact_write_items":
                    revoke_token(stack.clients, stack.outputs, token=old.token)
                return getattr(stack.clients["dynamodb"], name)

        with pytest.raises(OpsError, match="changed meanwhile; rotate again"):
            rotate_token({**stack.clients, "dynamodb": Racing()}, stack.outputs, name="alice", overlap=DAY)
        assert list(tokens_of(stack)) == [shown(old.token)]


class TestFreezing:
    def statuses(self, stack: Stack) -> dict[str, str]:
        return {each.id: each.status for each in list_consumers(stack.clients, stack.outputs)}

    def test_one_consumer_and_back(self, stack: Stack) -> None:
        create(stack)
        create(stack, name="bob")
        freeze_consumer(stack.clients, stack.outputs, name="alice", frozen=True)
        assert self.statuses(stack) == {"alice": "frozen", "bob": "active"}
        freeze_consumer(stack.clients, stack.outputs, name="alice", frozen=False)
        assert self.statuses(stack) == {"alice": "active", "bob": "active"}
        with pytest.raises(OpsError, match="no consumer carol"):
            freeze_consumer(stack.clients, stack.outputs, name="carol", frozen=True)
        assert "carol" not in self.statuses(stack)

    def test_the_stack_and_back_leaves_who_was_frozen_before_frozen(self, stack: Stack) -> None:
        create(stack)
        create(stack, name="bob")
        freeze_consumer(stack.clients, stack.outputs, name="bob", frozen=True)
        for _ in range(2):
            freeze_stack(stack.clients, stack.outputs, frozen=True)
            assert is_frozen(stack.clients, stack.outputs)
        for _ in range(2):
            freeze_stack(stack.clients, stack.outputs, frozen=False)
            assert not is_frozen(stack.clients, stack.outputs)
        assert self.statuses(stack) == {"alice": "active", "bob": "frozen"}

    def test_the_gateways_answers_are_dropped(self, stack: Stack) -> None:
        gateway = stack.clients["apigateway"]
        api = gateway.create_rest_api(name="models")["id"]
        root = gateway.get_resources(restApiId=api)["items"][0]["id"]
        gateway.put_method(restApiId=api, resourceId=root, httpMethod="GET", authorizationType="NONE")
        gateway.put_integration(restApiId=api, resourceId=root, httpMethod="GET", type="MOCK")
        deployment = gateway.create_deployment(restApiId=api)["id"]
        gateway.create_stage(restApiId=api, stageName="v1", deploymentId=deployment)
        assert "lastUpdatedDate" not in gateway.get_stage(restApiId=api, stageName="v1")
        outputs = {**stack.outputs, "api_id": api, "stage_name": "v1"}
        effect = freeze_stack(stack.clients, outputs, frozen=True)
        assert (effect.dropped, effect.problem) == (True, None)
        assert "lastUpdatedDate" in gateway.get_stage(restApiId=api, stageName="v1")

    def test_that_they_cannot_be_dropped_is_said_with_the_time_it_takes(self, stack: Stack) -> None:
        outputs = {**stack.outputs, "api_id": "nothere", "stage_name": "v1"}
        said = freeze_stack(stack.clients, outputs, frozen=True).sentence()
        assert said.startswith("effective within 60 s, for which the gateway keeps answers")
        assert "could not be dropped: dropping the gateway's answers failed" in said

    @pytest.mark.parametrize(
        ("effect", "said"),
        [
            (Effect(seconds=0), "effective at once: the gateway keeps no answers"),
            (Effect(seconds=300, dropped=True), "effective in seconds: the gateway's kept answers were dropped"),
            (Effect(seconds=300), "effective within 300 s, for which the gateway keeps answers"),
        ],
    )
    def test_what_an_effect_says(self, effect: Effect, said: str) -> None:
        assert effect.sentence().startswith(said)


class TestImport:
    def test_they_are_made_and_their_tokens_handed_out(self, stack: Stack, tmp_path: Path) -> None:
        handed: list[Any] = []
        wanted = read_consumers(written(tmp_path, CSV))
        assert import_consumers(stack.clients, stack.outputs, wanted, hand_out=handed.append) == 2
        assert [each.consumer for each in handed] == ["alice", "bob"]
        alice, bob = list_consumers(stack.clients, stack.outputs)
        assert (alice.tasks, alice.contact, alice.source_cidrs) == (
            ("chat", "completions"), "alice@example.com", ("2001:db8::/32", "203.0.113.0/24"),
        )  # fmt: skip
        assert (alice.tokens[0].id, bob.tokens[0].id) == tuple(shown(each.token) for each in handed)

    def test_one_wrong_row_and_nothing_is_made(self, stack: Stack, tmp_path: Path) -> None:
        create(stack, name="there")
        before, keys = stack.rows(), stack.gateway_keys()
        rows = ("name,plan,tasks,source_cidrs", "ok,demo,,", "bad,gold,paint,10.0.0.1/8", "there,demo,,", "ok,demo,,",
                "oidc.x,demo,,")  # fmt: skip
        wanted = read_consumers(written(tmp_path, "\n".join(rows)))
        with pytest.raises(OpsError) as caught:
            import_consumers(stack.clients, stack.outputs, wanted, hand_out=lambda _: None)
        lines = str(caught.value).splitlines()
        assert lines[-1] == "nothing was made"
        for said in (
            "plan 'gold' does not exist", "task 'paint'", "'10.0.0.1/8' is no address block",
            "consumer there exists already", "consumer ok is there more than once", "oidc.x would be one of",
        ):  # fmt: skip
            assert sum(said in line for line in lines) == 1, said
        assert (stack.rows(), stack.gateway_keys()) == (before, keys)

    def test_a_failure_on_the_way_names_who_was_made(self, stack: Stack, tmp_path: Path) -> None:
        handed: list[Any] = []

        class Once:
            calls = 0

            def __getattr__(self, name: str) -> Any:
                if name == "create_api_key":
                    Once.calls += 1
                    if Once.calls > 1:
                        raise OpsError("creating the API Gateway key failed")
                return getattr(stack.clients["apigateway"], name)

        clients, wanted = {**stack.clients, "apigateway": Once()}, read_consumers(written(tmp_path, CSV))
        with pytest.raises(OpsError, match="made before it: alice"):
            import_consumers(clients, stack.outputs, wanted, hand_out=handed.append)
        assert [each.consumer for each in handed] == ["alice"]


class TestCommands:
    @pytest.fixture
    def run(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Any:
        target = Target(outputs=stack.outputs, endpoints={}, environment={})
        monkeypatch.setattr(Target, "key_clients", lambda _: stack.clients)
        monkeypatch.setattr(keys_command, "find_target", lambda _: target)

        def call(*arguments: str, expected: int = 0) -> Result:
            done = CliRunner().invoke(keys_command.app, [*arguments], catch_exceptions=expected == 1)
            assert done.exit_code == expected, (done.output, done.exception)
            return done

        return call

    def test_a_life_of_a_token(self, run: Any, stack: Stack, tmp_path: Path) -> None:
        made = run("create", "alice", "--plan", "demo", "--task", "chat", "--cidr", "10.0.0.0/8", "--expires", "90d",
                   "--contact", "alice@example.com")  # fmt: skip
        tokens.verify(made.stdout.strip())
        rotated = run("rotate", "alice", "--overlap", "2h")
        tokens.verify(rotated.stdout.strip())
        assert "alice: 1 older token ends" in rotated.stderr
        assert "60 s later" in rotated.stderr
        file = tmp_path / "token"
        file.write_text(rotated.stdout)
        assert "effective within 60 s" in run("revoke", str(file)).stderr
        listed = run("list", "--json").stdout
        assert made.stdout.strip() not in listed
        assert '"status": "revoked"' in listed
        assert stack.clients  # the stack of this test

    def test_the_default_overlap_is_a_day(self, run: Any, stack: Stack) -> None:
        old = create(stack)
        run("rotate", "alice")
        ends = tokens_of(stack)[shown(old.token)].expires
        assert ends is not None
        assert timedelta(hours=23, minutes=59) < ends - datetime.now(UTC) < timedelta(hours=24, minutes=1)

    def test_freezing_says_how_soon(self, run: Any, stack: Stack) -> None:
        create(stack)
        assert "consumer alice is frozen: effective within 60 s" in run("freeze", "--consumer", "alice").stderr
        assert "consumer alice is let in again" in run("thaw", "--consumer", "alice").stderr
        stack.outputs["authorizer_cache_seconds"] = 0
        assert "is frozen: effective at once" in run("freeze", "--all").stderr
        assert "the whole stack is frozen" in run("list").stderr
        run("thaw", "--all")
        assert "frozen" not in run("list").stderr
        for wrong in ((), ("--all", "--consumer", "alice")):
            run("freeze", *wrong, expected=2)

    def test_imported_tokens_go_to_a_file_of_ones_own(self, run: Any, tmp_path: Path) -> None:
        file, out = tmp_path / "c.csv", tmp_path / "tokens"
        file.write_text(CSV)
        done = run("import", str(file), "--tokens", str(out))
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        rows = dict(line.split("\t") for line in out.read_text().splitlines())
        assert list(rows) == ["alice", "bob"]
        for token in rows.values():
            tokens.verify(token)
            assert token not in done.output
        file.write_text(CSV.replace("alice", "carol").replace("bob", "dave"))
        run("import", str(file), "--tokens", str(out), expected=2)  # the file of before is kept
        failed = tmp_path / "failed"
        refused = tmp_path / "refused.csv"
        refused.write_text("name,plan\nerin,gold\n")
        run("import", str(refused), "--tokens", str(failed), expected=1)
        assert not failed.exists()
        printed = run("import", str(file)).stdout.splitlines()
        assert [line.split("\t")[0] for line in printed] == ["carol", "dave"]

    def test_who_signs_in_needs_no_name(self, run: Any, stack: Stack) -> None:
        done = run("create", "--oidc", "--plan", "demo")
        assert (done.stdout, "oidc.demo" in done.stderr) == ("", True)
        for wrong in (("create", "--plan", "demo"), ("create", "x", "--oidc", "--plan", "demo"),
                      ("create", "--oidc", "--plan", "demo", "--expires", "1d")):  # fmt: skip
            run(*wrong, expected=2)
        with pytest.raises(OpsError, match="exists already"):
            create_oidc_consumer(stack.clients, stack.outputs, plan="demo")
