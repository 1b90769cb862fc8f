"""The instances' metadata service (IMDSv2): what gives a server the credentials of its instance's role, and no others.

The SDK in the server asks it as on an instance of EC2, and again before a session ends, so nothing here renews.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Mapping
from datetime import UTC
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.fleet.deployed import Client

HOST = "127.0.0.1"
SESSION_SECONDS = 3600
LONGEST_TOKEN_SECONDS = 21600  # as EC2 has it
TOKEN_PATH = "latest/api/token"  # noqa: S105 - a path
CREDENTIALS_PATH = "latest/meta-data/iam/security-credentials/"
INSTANCE_ID_PATH = "latest/meta-data/instance-id"
_TOKEN_HEADER = "x-aws-ec2-metadata-token"  # noqa: S105 - a header's name


class MetadataService:
    """One listener for all instances of a fleet; the first part of a path is the instance's id.

    `client` is the account's root, which may take on any role that EC2 may.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._roles: dict[str, str | None] = {}
        self._tokens: dict[str, tuple[str, float]] = {}  # -> the instance it is of, and until when on the clock
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    def open(self) -> None:
        """Begin to answer, on a free port."""
        service = self

        class Handler(_Handler):
            answering = service

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="instance-metadata", daemon=True).start()

    def close(self) -> None:
        """Answer no more; safe to call twice, and before `open`."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def add(self, instance_id: str, *, role_arn: str | None) -> Mapping[str, str]:
        """Answer for this instance from now on; returns the variables by which an SDK in its server asks here."""
        if self._server is None:
            raise RuntimeError("the metadata service is not open: call open() first")
        with self._lock:
            self._roles[instance_id] = role_arn
        return {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{HOST}:{self._server.server_address[1]}/{instance_id}",
            "AWS_EC2_METADATA_V1_DISABLED": "true",
            # An SDK's own are one attempt and one second, which a busy machine may miss.
            "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "3",
            "AWS_METADATA_SERVICE_TIMEOUT": "10",
        }

    def forget(self, instance_id: str) -> None:
        """The instance is gone, and its tokens with it."""
        with self._lock:
            self._roles.pop(instance_id, None)
            self._tokens = {token: one for token, one in self._tokens.items() if one[0] != instance_id}

    def token(self, instance_id: str, *, seconds: int) -> str | None:
        """A token for this instance's metadata; None for an instance that is not known."""
        with self._lock:
            if instance_id not in self._roles:
                return None
            token = secrets.token_urlsafe(32)
            self._tokens[token] = (instance_id, time.monotonic() + seconds)
            return token

    def admits(self, instance_id: str, *, token: str) -> bool:
        """Whether the token opens this instance's metadata now."""
        with self._lock:
            owner, until = self._tokens.get(token, ("", 0.0))
            return owner == instance_id and time.monotonic() < until

    def answer(self, instance_id: str, path: str) -> str | None:
        """The metadata at `path`; None where there is none."""
        with self._lock:
            role_arn = self._roles.get(instance_id)
        if path == INSTANCE_ID_PATH:
            return instance_id
        if role_arn is None or not path.startswith(CREDENTIALS_PATH):
            return None
        name = role_arn.rpartition("/")[2]
        asked = path.removeprefix(CREDENTIALS_PATH)
        if asked == "":
            return name
        return json.dumps(self._credentials(role_arn, session=instance_id)) if asked == name else None

    def _credentials(self, role_arn: str, *, session: str) -> Mapping[str, str]:
        """A new session of the role, or the code by which EC2 says that it has none."""
        try:
            answer = self._client("sts").assume_role(
                RoleArn=role_arn, RoleSessionName=session, DurationSeconds=SESSION_SECONDS
            )
        except (BotoCoreError, ClientError) as error:
            return {"Code": "AssumeRoleUnauthorizedAccess", "Message": str(error)}
        given = answer["Credentials"]
        return {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": given["AccessKeyId"],
            "SecretAccessKey": given["SecretAccessKey"],
            "Token": given["SessionToken"],
            "Expiration": given["Expiration"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


class _Handler(BaseHTTPRequestHandler):
    answering: MetadataService

    def do_PUT(self) -> None:
        """A token, for as long as the caller asks for one."""
        instance_id, path = self._place()
        seconds = self.headers.get(f"{_TOKEN_HEADER}-ttl-seconds", "")
        if path != TOKEN_PATH:
            self._reply(404)
        elif not seconds.isdigit() or not 1 <= int(seconds) <= LONGEST_TOKEN_SECONDS:
            self._reply(400)
        else:
            token = self.answering.token(instance_id, seconds=int(seconds))
            self._reply(404 if token is None else 200, token or "")

    def do_GET(self) -> None:
        """Metadata, for whoever has a token of this instance."""
        instance_id, path = self._place()
        if not self.answering.admits(instance_id, token=self.headers.get(_TOKEN_HEADER, "")):
            self._reply(401)
            return
        found = self.answering.answer(instance_id, path)
        self._reply(404 if found is None else 200, found or "")

    def _place(self) -> tuple[str, str]:
        instance_id, _, path = self.path.removeprefix("/").partition("/")
        return instance_id, path

    def _reply(self, status: int, text: str = "") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: no credential is to stand in a log."""
