"""What a training job leaves in the results bucket: how far it is, what came of it, its card and its loss curve."""

import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from model_image.errors import TrainingError
from model_image.train.checkpoint_store import Store

OUTCOME, PROGRESS, CURVE = "outcome.json", "progress.json", "metrics.jsonl"
FOLLOW_SECONDS = 2.0
State = Literal["published", "refused", "failed"]
_CONTENT_TYPES = {".json": "application/json", ".md": "text/markdown", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Results:
    """The objects under `s3://BUCKET/training/NAME/`; `batch_job` is the id of the job that writes them."""

    client: Any
    bucket: str
    name: str
    batch_job: str

    @property
    def checkpoints(self) -> str:
        """Where the job keeps the state of its training."""
        return f"s3://{self.bucket}/{self._key('checkpoints')}"

    def outcome(
        self,
        state: State,
        *,
        model: str | None,
        version: str | None,
        reason: str = "",
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Says what came of the job; `reason` is one line. Raises TrainingError where S3 does not take it."""
        value: dict[str, Any] = {"state": state, "model": model, "version": version, "job": self.batch_job}
        value |= {"reason": reason} if reason else {}
        value |= {"metrics": dict(metrics)} if metrics else {}
        self._put(OUTCOME, json.dumps(value, indent=2).encode() + b"\n")

    def card(self, artefact: Path) -> None:
        """Keeps the model card with its plots, and the loss curve. Raises TrainingError."""
        for path in sorted(artefact.iterdir()):
            if path.suffix in {".md", ".svg"} or path.name == CURVE:
                self._put(path.name, path.read_bytes())

    def curve(self, store: Store) -> None:
        """Keeps the loss curve of a training that was not made into an artefact. Raises TrainingError."""
        steps = store.steps()
        if not steps:
            return
        source = store.name(max(steps)).removeprefix(f"s3://{self.bucket}/")
        try:
            self.client.copy_object(
                Bucket=self.bucket,
                Key=self._key(CURVE),
                CopySource={"Bucket": self.bucket, "Key": f"{source}/{CURVE}"},
            )
        except (ClientError, BotoCoreError) as error:
            raise self._refused(CURVE, error) from error

    @contextmanager
    def following(self, report: Path) -> Iterator[None]:
        """Keeps PROGRESS as the training's own report is, for as long as the context lasts."""
        over = threading.Event()
        thread = threading.Thread(target=self._follow, args=(report, over), name="job-progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _follow(self, report: Path, over: threading.Event) -> None:
        before = b""
        while True:
            is_last = over.wait(FOLLOW_SECONDS)
            now = report.read_bytes() if report.exists() else b""
            if now != before:
                before = now
                value = {**json.loads(now), "job": self.batch_job}
                try:
                    self._put(PROGRESS, json.dumps(value).encode())
                except TrainingError as error:  # how far it is may be missing; what came of it may not
                    sys.stderr.write(f"model_image train: {error}\n")
            if is_last:
                return

    def _put(self, name: str, body: bytes) -> None:
        kind = _CONTENT_TYPES.get(Path(name).suffix, "application/x-ndjson")
        try:
            self.client.put_object(Bucket=self.bucket, Key=self._key(name), Body=body, ContentType=kind)
        except (ClientError, BotoCoreError) as error:
            raise self._refused(name, error) from error

    def _refused(self, name: str, error: Exception) -> TrainingError:
        answer = getattr(error, "response", {}).get("Error", {}).get("Code", type(error).__name__)
        return TrainingError(
            f"s3://{self.bucket}/{self._key(name)} cannot be written: S3 answered {answer}; check the results bucket "
            "and the role's rights"
        )

    def _key(self, name: str) -> str:
        return f"training/{self.name}/{name}"
