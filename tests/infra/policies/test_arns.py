"""Patterns of ARNs: whose things they fit, which service's, and which of them."""

from __future__ import annotations

import pytest

from infra.policies.arns import is_unnamed, names_owner, spans_services


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("123456789012", True),
        ("o-abc123", True),
        ("arn:aws:iam::123456789012:role/*", True),
        ("arn:aws:execute-api:eu-west-1:123456789012:abc/*", True),
        ("arn:aws:s3:::layers/*", True),
        ("*", False),
        ("1234*", False),
        ("o-*", False),
        ("arn:aws:iam::*:*", False),
        ("arn:aws:iam::*:role/*", False),
        ("arn:aws:iam::12345678901?:root", False),
        ("arn:aws:execute-api:*:*:*", False),
        ("arn:aws:s3:::*", False),
        ("arn:aws:s3:::layers*", False),
        ("arn:*", False),
    ],
)
def test_a_value_ties_to_somebody_where_it_names_them_whole(value: str, named: bool) -> None:
    assert names_owner(value) is named


@pytest.mark.parametrize("resource", ["*", "**", "*?", "arn:*", "arn:aws:*", "arn:aws:*:*:*:*", "arn:*:*:*:*:*"])
def test_everything_has_many_spellings(resource: str) -> None:
    assert spans_services(resource)
    assert is_unnamed(resource)


@pytest.mark.parametrize(
    ("resource", "unnamed"),
    [
        ("arn:aws:s3:::*", True),
        ("arn:aws:s3:::*/*", True),
        ("arn:aws:s3:::?odels/*", True),
        ("arn:aws:kms:eu-west-1:1:key/*", True),
        ("arn:aws:kms:*:1:key/??*", True),
        ("arn:aws:kms:*:1:*", True),
        ("arn:aws:logs:eu-west-1:1:log-group:*", True),
        ("arn:aws:lambda:eu-west-1:1:f*:authorizer", True),
        ("arn:aws:s3:eu-west-1:1:accesspoint/*", True),
        ("arn:aws:sqs:*:1:*", True),
        ("arn:aws:s3:::models/*", False),
        ("arn:aws:s3:::models", False),
        ("arn:aws:kms:eu-west-1:1:key/abc", False),
        ("arn:aws:logs:eu-west-1:1:log-group:servers:*", False),
        ("arn:aws:execute-api:eu-west-1:1:abc/*/POST/*", False),
        ("arn:aws:something:::something", False),
        ("something", False),
    ],
)
def test_a_resource_is_unnamed_where_its_name_begins_with_a_wildcard(resource: str, unnamed: bool) -> None:
    assert is_unnamed(resource) is unnamed
    assert not spans_services(resource)
