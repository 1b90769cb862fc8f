"""The oldest version of TLS that a named policy admits."""

from __future__ import annotations

import pytest

from infra.policies.tls import oldest_minor


@pytest.mark.parametrize(
    ("policy", "minor"),
    [
        ("ELBSecurityPolicy-TLS13-1-3-2021-06", 3),
        ("ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09", 2),
        ("ELBSecurityPolicy-TLS13-1-1-2021-06", 1),
        ("ELBSecurityPolicy-TLS13-1-0-2021-06", 0),
        ("ELBSecurityPolicy-TLS-1-2-Ext-2018-06", 2),
        ("ELBSecurityPolicy-FS-1-1-2019-08", 1),
        ("ELBSecurityPolicy-FS-2018-06", None),
        ("ELBSecurityPolicy-2016-08", None),
        ("SecurityPolicy_TLS13_1_2_2021_06", 2),
        ("SecurityPolicy_TLS13_1_3_FIPS_2025_09", 3),
        ("SecurityPolicy_TLS13_2025_EDGE", 3),
        ("SecurityPolicy_TLS12_PFS_2025_EDGE", 2),
        ("TLS_1_2", 2),
        ("TLS_1_0", 0),
        ("", None),
    ],
)
def test_the_name_says_the_oldest_version(policy: str, minor: int | None) -> None:
    assert oldest_minor(policy) == minor
