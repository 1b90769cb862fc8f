"""Where the data sets come from: documentation strings of botocore's service models, and VADER's labelled sentences."""

import gzip
import hashlib
import html
import io
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import botocore

from model_image.errors import DataError
from model_image.train.datasets import DatasetManifest, write_dataset
from model_image.train.row_files import Row

# Long, prose-like documentation; a fixed list in a fixed order, so that one botocore version always gives one data set.
SERVICES = (
    "apigateway", "autoscaling", "batch", "cloudformation", "cloudfront", "cloudtrail", "cloudwatch", "cognito-idp",
    "dynamodb", "ec2", "ecr", "ecs", "eks", "elbv2", "events", "glue", "iam", "kinesis", "kms", "lambda", "logs",
    "organizations", "rds", "redshift", "route53", "s3", "sagemaker", "secretsmanager", "sns", "sqs", "ssm", "sts",
    "wafv2",
)  # fmt: skip
BYTES_PER_SERVICE = 256 * 1024
SHORTEST_TEXT = 60
HELD_OUT_PERCENT = 4
LABELLED_HELD_OUT_PERCENT = 15
# Mean ratings run from -4 to 4; below half a point the raters did not agree on a direction.
CLEAR_SCORE = 0.5

_BLOCK_TAG = re.compile(r"</?(?:p|li|ul|ol|dl|dd|dt|h\d|note|important|div|table|tr|br)\b[^>]*>", re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")
_SPACES = re.compile(r"\s+")


def botocore_docs_source() -> str:
    """What the data set `botocore-docs` is made of; another botocore version is another source."""
    return f"botocore {botocore.__version__}, documentation of {len(SERVICES)} service models"


def build_botocore_docs(directory: Path) -> DatasetManifest:
    """Documentation strings as plain text, one row each: {"text"}; no text twice, mixed in a fixed order."""
    models = Path(botocore.__file__).parent / "data"
    texts: dict[str, None] = {}
    for service in SERVICES:
        left = BYTES_PER_SERVICE
        for text in _mixed(set(_documentation(_newest_model(models / service)))):
            left -= len(text.encode())
            if left < 0:
                break
            texts[text] = None
    rows = [{"text": text} for text in _mixed(texts)]
    return write_dataset(
        directory,
        splits=_split(rows, held_out_percent=HELD_OUT_PERCENT),
        source=botocore_docs_source(),
        licence="Apache-2.0",
    )


def _newest_model(service: Path) -> object:
    paths = sorted(service.glob("*/service-2.json.gz"))
    if not paths:
        raise DataError(f"{service} has no service-2.json.gz; install the botocore version that pyproject.toml names")
    with gzip.open(paths[-1], "rt", encoding="utf-8") as file:
        return json.load(file)


def _documentation(value: object) -> Iterator[str]:
    """Every string under a key `documentation`, tags stripped, long enough to be prose."""
    if isinstance(value, dict):
        for key, child in value.items():
            if key == "documentation" and isinstance(child, str):
                text = plain_text(child)
                if len(text) >= SHORTEST_TEXT:
                    yield text
            else:
                yield from _documentation(child)
    elif isinstance(value, list):
        for child in value:
            yield from _documentation(child)


def plain_text(markup: str) -> str:
    """HTML without its tags and entities: one line per block, single spaces."""
    lines = _TAG.sub("", _BLOCK_TAG.sub("\n", _SPACES.sub(" ", markup))).split("\n")
    return "\n".join(line for line in (_SPACES.sub(" ", html.unescape(line)).strip() for line in lines) if line)


def vader_sentences_source() -> str:
    """What the data set `vader-sentences` is made of."""
    return "vaderSentiment 3.3.2 source distribution, hutto_ICWSM_2014 ground truth"


def build_vader_sentences(directory: Path, *, sdist: Path) -> DatasetManifest:
    """
    The rated sentences of the VADER paper: {"text", "label", "score", "domain"}.

    Labels: `positive` and `negative` from half a point of mean rating on, `neutral` between. Source: C.J. Hutto and
    E. Gilbert, VADER, ICWSM 2014. The archive is only read, in memory; nothing of it is run.
    """
    rows: dict[str, Row] = {}
    for domain, score, text in _rated_sentences(sdist):
        label = "neutral" if abs(score) < CLEAR_SCORE else "positive" if score > 0 else "negative"
        rows.setdefault(text.casefold(), {"text": text, "label": label, "score": round(score, 4), "domain": domain})
    mixed = sorted(rows.values(), key=lambda row: _order(row["text"]))
    return write_dataset(
        directory,
        splits=_split(mixed, held_out_percent=LABELLED_HELD_OUT_PERCENT),
        source=vader_sentences_source(),
        licence="MIT",
    )


def _rated_sentences(sdist: Path) -> Iterator[tuple[str, float, str]]:
    try:
        with tarfile.open(sdist) as outer:
            inner = next((name for name in outer.getnames() if name.endswith("hutto_ICWSM_2014.tar.gz")), None)
            packed = outer.extractfile(inner) if inner else None
            if packed is None:
                raise DataError(f"{sdist} holds no hutto_ICWSM_2014.tar.gz; fetch the source distribution again")
            with tarfile.open(fileobj=io.BytesIO(packed.read())) as archive:
                for name in sorted(archive.getnames()):
                    file = archive.extractfile(name) if name.endswith("_GroundTruth.txt") else None
                    if file is not None:
                        yield from _ratings(name, file.read().decode("utf-8", errors="replace"))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{sdist} is not a readable archive ({error.__class__.__name__}); fetch it again") from error


def _ratings(name: str, content: str) -> Iterator[tuple[str, float, str]]:
    domain = re.split(r"[A-Z_]", Path(name).name, maxsplit=1)[0]
    for number, line in enumerate(content.splitlines(), start=1):
        parts = line.split("\t", maxsplit=2)
        try:
            score, text = float(parts[1]), parts[2].strip()
        except (IndexError, ValueError) as error:
            raise DataError(f"{name} line {number} is not `id, mean rating, text`; fetch the archive again") from error
        if text:
            yield domain, score, text


def _order(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _mixed(texts: set[str] | dict[str, None]) -> list[str]:
    """An order that mixes the texts and depends on nothing but them."""
    return sorted(texts, key=_order)


def _split(rows: Sequence[Row], *, held_out_percent: int) -> dict[str, list[Row]]:
    """The rows in their order, the first part held out: they are mixed already."""
    held_out = max(1, len(rows) * held_out_percent // 100)
    return {"train": list(rows[held_out:]), "heldout": list(rows[:held_out])}
