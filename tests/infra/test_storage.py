"""The buckets, their keys, and what protects them: in the graphs, and taken down full on the emulators."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.infra.test_graph import inputs, sources

BUCKET_TYPE = "s3/bucket:Bucket"
CONTENTS = ("models", "data", "results")
PROTECTED = ("staging", "prod")
TAKEN_DOWN = ("local", "dev")


def named(graph: Any, resource_type: str, name: str) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = [each for each in graph.of_type(resource_type) if each["name"] == name]
    return found


class TestEncryption:
    def test_each_purpose_has_a_key_of_its_own_with_bucket_keys(self, graph: Any) -> None:
        keys = set()
        for content in CONTENTS:
            encryption = named(graph, ":BucketServerSideEncryptionConfiguration", f"storage-{content}-encryption")
            (rule,) = inputs(encryption)["rules"]
            assert rule["applyServerSideEncryptionByDefault"]["sseAlgorithm"] == "aws:kms"
            assert rule["bucketKeyEnabled"] is True
            keys.add(sources(encryption, "rules"))
        assert len(keys) == len(CONTENTS)

    def test_a_key_of_the_requests_own_is_refused_everywhere(self, graph: Any) -> None:
        for bucket in graph.of_type(BUCKET_TYPE):
            (encryption,) = graph.referring(":BucketServerSideEncryptionConfiguration", "bucket", bucket)
            assert inputs(encryption)["rules"][0]["blockedEncryptionTypes"] == ["SSE-C"]
            (policy,) = graph.referring(":BucketPolicy", "bucket", bucket)
            (statement,) = [each for each in inputs(policy)["policy"]["Statement"] if each["Sid"] == "DenyCustomerKeys"]
            assert (statement["Effect"], statement["Principal"]) == ("Deny", {"AWS": "*"})
            # "false": the header is there.
            assert statement["Condition"] == {"Null": {"s3:x-amz-server-side-encryption-customer-algorithm": "false"}}


class TestLifecycle:
    def test_old_versions_parts_and_markers_go(self, graph: Any) -> None:
        for bucket in graph.of_type(BUCKET_TYPE):
            (lifecycle,) = graph.referring(":BucketLifecycleConfiguration", "bucket", bucket)
            rule = inputs(lifecycle)["rules"][0]
            assert rule["noncurrentVersionExpiration"] == {"noncurrentDays": 90}
            assert rule["abortIncompleteMultipartUpload"] == {"daysAfterInitiation": 7}
            assert set(rule["expiration"]) in ({"days"}, {"expiredObjectDeleteMarker"})

    def test_results_are_kept_for_as_long_as_the_settings_say_and_usage_longer(self, graphs: dict[str, Any]) -> None:
        days = {}
        for stack, graph in graphs.items():
            lifecycle = named(graph, ":BucketLifecycleConfiguration", "storage-results-lifecycle")
            whole, *rules = inputs(lifecycle)["rules"]
            assert "days" not in whole["expiration"]  # it would hold for usage, too
            days[stack] = {rule["filter"]["prefix"]: rule["expiration"]["days"] for rule in rules}
        assert {stack: each["batches/"] for stack, each in days.items()} == {
            "local": 1, "dev": 7, "staging": 30, "prod": 30,
        }  # fmt: skip
        assert all(each["training/"] == each["batches/"] for each in days.values())
        assert all(each["usage/"] == each["usage-errors/"] == 400 for each in days.values())


class TestProtection:
    @pytest.mark.parametrize("stack", PROTECTED)
    def test_what_holds_data_is_neither_deleted_nor_replaced(self, stack: str, graphs: dict[str, Any]) -> None:
        graph = graphs[stack]
        for bucket in graph.of_type(BUCKET_TYPE):
            assert "forceDestroy" not in inputs(bucket), bucket["name"]
            assert bucket["protect"] is (bucket["name"] in {f"storage-{each}" for each in CONTENTS}), bucket["name"]
        assert all(each["protect"] for each in graph.of_type("dynamodb/table:Table"))
        assert inputs(graph.one("ecr/repository:Repository"))["forceDelete"] is False

    @pytest.mark.parametrize("stack", TAKEN_DOWN)
    def test_a_stack_for_trying_goes_with_all_that_is_in_it(self, stack: str, graphs: dict[str, Any]) -> None:
        graph = graphs[stack]
        assert all(inputs(each)["forceDestroy"] is True for each in graph.of_type(BUCKET_TYPE))
        assert not [each["name"] for each in graph.resources if each["protect"]]
        assert not any(inputs(each)["deletionProtectionEnabled"] for each in graph.of_type("dynamodb/table:Table"))
        assert inputs(graph.one("ecr/repository:Repository"))["forceDelete"] is True

    def test_without_the_setting_data_is_protected(
        self, changed_graph: Callable[[Callable[[dict[str, Any]], None]], Any]
    ) -> None:
        graph = changed_graph(lambda config: config.pop("modelkeep:storage"))
        assert named(graph, BUCKET_TYPE, "storage-models")["protect"] is True
