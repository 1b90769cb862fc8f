"""What must hold of every stack, whatever its values."""

from collections.abc import Callable
from typing import Any

import pytest

UNKNOWN = "<unknown>"
SECRET = "<secret>"


def inputs(resource: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = resource["inputs"]
    return found


def sources(resource: dict[str, Any], prop: str) -> str:
    """The URNs that a property's value comes from, as one text."""
    return " ".join(resource["property_dependencies"].get(prop, []))


def every_value(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [each for item in value.values() for each in every_value(item)]
    if isinstance(value, list):
        return [each for item in value for each in every_value(item)]
    return [value]


class TestStorage:
    def test_every_bucket_is_encrypted_private_versioned_and_closed_to_plain_http(self, graph: Any) -> None:
        for bucket in graph.of_type("s3/bucket:Bucket"):
            (encryption,) = graph.referring(":BucketServerSideEncryptionConfiguration", "bucket", bucket)
            (rule,) = inputs(encryption)["rules"]
            algorithm = rule["applyServerSideEncryptionByDefault"]["sseAlgorithm"]
            # Access logs are delivered to no bucket with another key than S3's own.
            assert algorithm == ("AES256" if bucket["name"] == "storage-logs" else "aws:kms")
            (block,) = graph.referring(":BucketPublicAccessBlock", "bucket", bucket)
            assert [inputs(block)[each] for each in (
                "blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets",
            )] == [True] * 4  # fmt: skip
            (ownership,) = graph.referring(":BucketOwnershipControls", "bucket", bucket)
            assert inputs(ownership)["rule"] == {"objectOwnership": "BucketOwnerEnforced"}
            (versioning,) = graph.referring(":BucketVersioning", "bucket", bucket)
            assert inputs(versioning)["versioningConfiguration"] == {"status": "Enabled"}
            (policy,) = graph.referring(":BucketPolicy", "bucket", bucket)
            denied = {each["Sid"] for each in inputs(policy)["policy"]["Statement"] if each["Effect"] == "Deny"}
            assert {"DenyPlainHttp", "DenyOldTls"} <= denied
            assert len(graph.referring(":BucketLifecycleConfiguration", "bucket", bucket)) == 1

    def test_models_and_data_have_keys_of_their_own_and_log_accesses(self, graph: Any) -> None:
        keys = set()
        for name in ("storage-models", "storage-data"):
            (bucket,) = [each for each in graph.of_type("s3/bucket:Bucket") if each["name"] == name]
            (encryption,) = graph.referring(":BucketServerSideEncryptionConfiguration", "bucket", bucket)
            keys.add(sources(encryption, "rules"))
            (logging,) = graph.referring(":BucketLogging", "bucket", bucket)
            assert "::storage-logs" in sources(logging, "targetBucket")
        assert len(keys) == 2

    def test_every_table_is_encrypted_recoverable_and_protected(self, graph: Any) -> None:
        for table in graph.of_type("dynamodb/table:Table"):
            assert inputs(table)["serverSideEncryption"]["enabled"] is True
            assert "kms/key:Key" in sources(table, "serverSideEncryption")
            assert inputs(table)["pointInTimeRecovery"]["enabled"] is True
            assert inputs(table)["deletionProtectionEnabled"] is table["protect"]

    def test_every_key_rotates_and_every_log_group_is_encrypted_and_ends(self, graph: Any) -> None:
        keys = [inputs(each) for each in graph.of_type("kms/key:Key")]
        (signing,) = [each for each in keys if each.get("keyUsage") == "SIGN_VERIFY"]  # AWS rotates none of these
        assert signing["customerMasterKeySpec"] == "ECC_NIST_P256"
        assert all(each["enableKeyRotation"] is True for each in keys if each is not signing)
        for group in graph.of_type("logGroup:LogGroup"):
            assert inputs(group)["retentionInDays"] > 0
            assert "logs-key" in sources(group, "kmsKeyId")

    def test_images_are_immutable_scanned_and_encrypted(self, graph: Any) -> None:
        repository = graph.one("ecr/repository:Repository")
        assert inputs(repository)["imageTagMutability"] == "IMMUTABLE"
        assert inputs(repository)["imageScanningConfiguration"] == {"scanOnPush": True}
        assert inputs(repository)["encryptionConfigurations"][0]["encryptionType"] == "KMS"


class TestNetwork:
    def test_there_is_no_way_to_the_internet(self, graph: Any) -> None:
        ways = ("internetGateway", "natGateway", "ec2/route:Route", "egressOnly", "ec2/eip:", "vpcPeering")
        assert not [each["urn"] for each in graph.resources if any(way in each["type"] for way in ways)]
        assert all(inputs(each)["routes"] == [] for each in graph.of_type("routeTable:RouteTable"))
        assert all(inputs(each)["mapPublicIpOnLaunch"] is False for each in graph.of_type("subnet:Subnet"))
        assert inputs(graph.one("loadBalancer:LoadBalancer"))["internal"] is True

    def test_the_default_security_group_is_closed(self, graph: Any) -> None:
        group = inputs(graph.one("defaultSecurityGroup:DefaultSecurityGroup"))
        assert group["ingress"] == []
        assert group["egress"] == []

    def test_security_groups_admit_each_other_and_no_addresses(self, graph: Any) -> None:
        for rule in graph.of_type("GroupIngressRule") + graph.of_type("GroupEgressRule"):
            assert not {"cidrIpv4", "cidrIpv6"} & set(inputs(rule)), rule["name"]
            assert {"referencedSecurityGroupId", "prefixListId"} & set(inputs(rule)), rule["name"]
            # Machines that train together take whatever port Linux gives; nobody else is among them.
            among_themselves = sources(rule, "securityGroupId") == sources(rule, "referencedSecurityGroupId")
            assert among_themselves or inputs(rule)["fromPort"] == inputs(rule)["toPort"]
        assert not any(
            {"ingress", "egress"} & set(inputs(each)) for each in graph.of_type("/securityGroup:SecurityGroup")
        )

    def test_every_endpoint_has_a_policy_and_flow_logs_are_on(self, graph: Any) -> None:
        assert all("policy" in inputs(each) for each in graph.of_type("vpcEndpoint:VpcEndpoint"))
        flow_log = graph.one("flowLog:FlowLog")
        assert inputs(flow_log)["trafficType"] == "ALL"
        assert "network-vpc" in sources(flow_log, "vpcId")


class TestServing:
    def test_instances_are_reached_by_their_role_only_and_have_encrypted_disks(self, graph: Any) -> None:
        for template in map(inputs, graph.of_type("launchTemplate:LaunchTemplate")):
            assert template["metadataOptions"] == {
                "httpEndpoint": "enabled",
                "httpTokens": "required",
                "httpPutResponseHopLimit": 1,
                "instanceMetadataTags": "disabled",
            }
            assert all(each["ebs"]["encrypted"] == "true" for each in template["blockDeviceMappings"])
            assert "keyName" not in template
            assert {each["resourceType"] for each in template["tagSpecifications"]} == {"instance", "volume"}

    def test_the_group_pins_the_templates_version_and_replaces_what_is_not_ready(self, graph: Any) -> None:
        group = graph.one("autoscaling/group:Group")
        specification = inputs(group)["mixedInstancesPolicy"]["launchTemplate"]["launchTemplateSpecification"]
        assert specification["version"] not in ("$Latest", "$Default")
        assert "launchTemplate:LaunchTemplate" in sources(group, "mixedInstancesPolicy")
        assert inputs(group)["healthCheckType"] == "ELB"
        assert inputs(group)["instanceMaintenancePolicy"]["minHealthyPercentage"] == 100
        assert {"project", "stack", "Name"} <= {
            each["key"] for each in inputs(group)["tags"] if each["propagateAtLaunch"]
        }
        # A target group that no listener has tied to a balancer would refuse the group.
        assert "listener:Listener" in sources(group, "targetGroupArns")
        # Without endpoints an instance cannot boot.
        endpoints = {each["urn"] for each in graph.of_type("vpcEndpoint:VpcEndpoint")}
        assert len(endpoints) == 17
        assert endpoints <= set(group["dependencies"])

    def test_scaling_follows_requests_in_flight_per_instance(self, graph: Any) -> None:
        tracking = inputs(graph.one("autoscaling/policy:Policy"))["targetTrackingConfiguration"]
        metric = tracking["customizedMetricSpecification"]
        assert (metric["namespace"], metric["metricName"], metric["statistic"]) == (
            "modelkeep", "InFlightRequests", "Average",
        )  # fmt: skip
        assert tracking["targetValue"] > 0

    def test_every_hop_is_tls(self, graph: Any) -> None:
        listener = inputs(graph.one("listener:Listener"))
        assert (listener["protocol"], listener["port"]) == ("HTTPS", 443)
        assert "TLS13" in listener["sslPolicy"]
        targets = inputs(graph.one("targetGroup:TargetGroup"))
        assert targets["protocol"] == targets["healthCheck"]["protocol"] == "HTTPS"
        assert targets["healthCheck"]["path"] == "/ready"
        assert "TLS13" in inputs(graph.one("restApi:RestApi"))["securityPolicy"]

    def test_the_balancer_waits_as_long_as_the_gateway(self, graph: Any) -> None:
        balancer = inputs(graph.one("loadBalancer:LoadBalancer"))
        timeouts = {inputs(each)["timeoutMilliseconds"] for each in graph.of_type("integration:Integration")}
        assert balancer["idleTimeout"] * 1000 > max(timeouts)
        assert balancer["dropInvalidHeaderFields"] is True
        assert balancer["accessLogs"]["enabled"] is True

    def test_the_link_is_deleted_before_the_balancer(self, graph: Any) -> None:
        assert any("loadBalancer:LoadBalancer" in each for each in graph.one("vpcLink:VpcLink")["dependencies"])


class TestGateway:
    def test_every_method_asks_for_a_token_a_plan_and_a_valid_body(self, graph: Any) -> None:
        for method in graph.of_type("apigateway/method:Method"):
            assert inputs(method)["authorization"] == "CUSTOM"
            assert "authorizer:Authorizer" in sources(method, "authorizerId")
            assert inputs(method)["apiKeyRequired"] is True
            assert "requestValidator:RequestValidator" in sources(method, "requestValidatorId")
            if inputs(method)["httpMethod"] == "POST":
                assert set(inputs(method)["requestModels"]) == {"application/json", "$default"}
        validator = inputs(graph.one("requestValidator:RequestValidator"))
        assert validator["validateRequestBody"] is True
        assert inputs(graph.one("restApi:RestApi"))["apiKeySource"] == "AUTHORIZER"

    def test_the_authorizers_answer_holds_for_one_token_from_one_address(self, graph: Any) -> None:
        authorizer = inputs(graph.one("authorizer:Authorizer"))
        assert authorizer["type"] == "REQUEST"
        assert authorizer["identitySource"] == "method.request.header.Authorization, context.identity.sourceIp"
        assert authorizer["authorizerResultTtlInSeconds"] == 60
        permissions = graph.of_type("lambda/permission:Permission")
        (permission,) = [each for each in permissions if inputs(each)["principal"] == "apigateway.amazonaws.com"]
        assert "authorizer:Authorizer" in sources(permission, "sourceArn")

    def test_every_route_streams_from_the_balancer(self, graph: Any) -> None:
        integrations = graph.of_type("integration:Integration")
        assert len(integrations) == len(graph.of_type("apigateway/method:Method"))
        for each in integrations:
            assert (inputs(each)["type"], inputs(each)["connectionType"]) == ("HTTP_PROXY", "VPC_LINK")
            assert inputs(each)["responseTransferMode"] == "STREAM"
            assert "loadBalancer:LoadBalancer" in sources(each, "integrationTarget")

    def test_the_stage_is_logged_throttled_and_behind_the_firewall(self, graph: Any) -> None:
        stage = graph.one("apigateway/stage:Stage")
        assert "logGroup:LogGroup" in sources(stage, "accessLogSettings")
        assert any("apigateway/account:Account" in each for each in stage["dependencies"])
        (association,) = graph.referring("webAclAssociation:WebAclAssociation", "resourceArn", stage)
        assert "webAcl:WebAcl" in sources(association, "webAclArn")
        settings = inputs(graph.one("methodSettings:MethodSettings"))
        assert settings["methodPath"] == "*/*"
        assert settings["settings"]["throttlingRateLimit"] > 0
        assert settings["settings"]["dataTraceEnabled"] is False
        assert settings["settings"]["loggingLevel"] == "ERROR"
        assert settings["settings"]["metricsEnabled"] is True

    def test_a_deployment_has_the_whole_definition(self, graph: Any) -> None:
        deployment = graph.one("deployment:Deployment")
        assert set(inputs(deployment)["triggers"]) == {"definition"}
        for kind in ("integration:Integration", "apigateway/method:Method", "response:Response", "restApiPolicy:"):
            urns = {each["urn"] for each in graph.of_type(kind)} if not kind.endswith(":") else {
                each["urn"] for each in graph.resources if kind in each["type"]
            }  # fmt: skip
            assert urns
            assert urns <= set(deployment["dependencies"])

    def test_every_plan_limits_rate_and_quota_of_the_stage(self, graph: Any) -> None:
        for plan in graph.of_type("usagePlan:UsagePlan"):
            assert inputs(plan)["throttleSettings"]["rateLimit"] > 0
            assert inputs(plan)["quotaSettings"]["period"] == "DAY"
            assert "restApi:RestApi" in sources(plan, "apiStages")
        assert len(graph.outputs["usage_plan_ids"]) == len(graph.of_type("usagePlan:UsagePlan"))


class TestFirewall:
    def test_rules_block_in_order_and_prompts_pass(self, graph: Any) -> None:
        acl = inputs(graph.one("webAcl:WebAcl"))
        rules = {each["name"]: each for each in acl["rules"]}
        assert len({each["priority"] for each in acl["rules"]}) == len(rules)
        own = ("blocked-addresses", "outside-allowed-addresses", "rate-per-address", "rate-per-token", "body-size")
        for name in (*own, "hostile-body", "scripts-outside-prompts", "sql-outside-prompts", "rate-per-key"):
            assert "block" in rules[name]["action"], name
            assert rules[name]["priority"] < rules["AWSManagedRulesAmazonIpReputationList"]["priority"]
        common = rules["AWSManagedRulesCommonRuleSet"]["statement"]["managedRuleGroupStatement"]
        counted = {each["name"] for each in common["ruleActionOverrides"] if "count" in each["actionToUse"]}
        assert {"SizeRestrictions_BODY", "CrossSiteScripting_BODY", "GenericLFI_BODY", "GenericRFI_BODY"} <= counted

    def test_bodies_are_inspected_whole_and_refused_beyond_the_limit(self, graph: Any) -> None:
        acl = inputs(graph.one("webAcl:WebAcl"))
        (request_body,) = acl["associationConfig"]["requestBodies"]
        assert request_body == {"apiGateway": {"defaultSizeInspectionLimit": "KB_64"}}
        (size,) = [each["statement"]["sizeConstraintStatement"] for each in acl["rules"] if each["name"] == "body-size"]
        assert size["size"] <= 64 * 1024
        assert size["fieldToMatch"] == {"body": {"oversizeHandling": "MATCH"}}

    def test_no_token_and_no_prompt_is_kept(self, graph: Any) -> None:
        acl = inputs(graph.one("webAcl:WebAcl"))
        visible = [acl["visibilityConfig"], *(each["visibilityConfig"] for each in acl["rules"])]
        assert not any(each["sampledRequestsEnabled"] for each in visible)
        protected = {each["field"]["fieldType"] for each in acl["dataProtectionConfig"]["dataProtections"]}
        assert protected == {"BODY", "QUERY_STRING", "SINGLE_HEADER"}
        logging = graph.one("webAclLoggingConfiguration:WebAclLoggingConfiguration")
        for name in ("authorization", "x-api-key"):
            assert {"singleHeader": {"name": name}} in inputs(logging)["redactedFields"]
        (group,) = [each for each in graph.of_type("logGroup:LogGroup") if each["name"] == "firewall-logs"]
        assert inputs(group)["name"].startswith("aws-waf-logs-")


class TestWhole:
    def test_no_role_may_do_everything(self, graph: Any) -> None:
        for policy in graph.of_type("iam/rolePolicy:RolePolicy"):
            for statement in inputs(policy)["policy"]["Statement"]:
                assert not any(action == "*" or action.endswith(":*") for action in statement["Action"])
                if "*" in statement["Resource"]:
                    assert statement["Sid"] in {
                        "RegistryLogin", "Measure", "WriteTraces", "LookAtJobs", "FindAgentEndpoint", "FindStream",
                    }  # fmt: skip

    def test_reading_objects_comes_with_decrypting_them(self, graph: Any) -> None:
        (policy,) = [each for each in graph.of_type("rolePolicy:RolePolicy") if each["name"] == "fleet-instance-policy"]
        granted = {action for each in inputs(policy)["policy"]["Statement"] for action in each["Action"]}
        assert {"s3:GetObject", "kms:Decrypt"} <= granted
        assert not any(action.startswith(("s3:Put", "s3:Delete")) for action in granted)

    def test_every_aws_resource_has_the_tagging_provider(self, graph: Any) -> None:
        (provider,) = [each for each in graph.resources if each["type"] == "pulumi:providers:aws"]
        assert "modelkeep" in inputs(provider)["defaultTags"]
        for each in graph.resources:
            if each["type"].startswith("aws:"):
                assert graph.providers[each["urn"]].startswith(provider["urn"]), each["urn"]

    def test_no_secret_is_shown_and_none_is_an_output(self, graph: Any) -> None:
        assert SECRET not in every_value(graph.outputs)
        assert "-----BEGIN" not in str(graph.resources)
        (imported,) = [each for each in graph.of_type("acm/certificate:Certificate") if "privateKey" in inputs(each)]
        assert inputs(imported)["privateKey"] == SECRET
        (registry,) = inputs(graph.one("docker-build:index:Image"))["registries"]
        assert registry["password"] == SECRET

    def test_outputs_are_the_documented_ones(self, graph: Any) -> None:
        assert set(graph.outputs) == {
            "api_url", "api_id", "stage_name", "usage_plan_ids", "model_bucket", "data_bucket", "image_repository_url",
            "dashboard_url", "autoscaling_group", "target_group_arn", "load_balancer_dns", "web_acl_arn",
            "consumers_table", "tokens_table", "consumers_key_arn", "canary_secret", "results_bucket",
            "signing_key_arn", "promotions_parameter", "rollout_function", "models", "authorizer_cache_seconds",
            "budgets_table", "training_queue", "training_queues", "training_job_definition", "usage_stream",
            "usage_table", "plan_prices", "alerts_topic",
        }  # fmt: skip

    def test_stacks_differ_by_values_only(self, graphs: dict[str, Any]) -> None:
        # Lists may be longer or shorter; a trail is there by audit.trail, which test_audit.py turns on and off, and a
        # canary by canary, as test_canary.py does.
        lists = (
            "subnet:Subnet",
            "routeTableAssociation:",
            "usagePlan:UsagePlan",
            "autoscaling/schedule:Schedule",
            "topicSubscription:",
        )
        shapes = {
            stack: {
                (each["type"], each["name"])
                for each in graph.resources
                if not any(part in each["type"] for part in lists)
                and each["type"] != "pulumi:pulumi:Stack"
                and not each["name"].startswith(("audit-trail", "canary-", "observability-canary"))
            }
            for stack, graph in graphs.items()
        }
        for stack, shape in shapes.items():
            assert shape == shapes["prod"], stack


class TestValues:
    Changed = Callable[[Callable[[dict[str, Any]], None]], Any]

    def test_with_a_domain_the_balancer_is_verified_and_the_default_address_closed(
        self, changed_graph: Changed
    ) -> None:
        graph = changed_graph(lambda config: config["modelkeep:api"].update(domain="models.example.com"))
        for each in graph.of_type("integration:Integration"):
            assert inputs(each)["tlsConfig"] == {"insecureSkipVerification": False}
            assert inputs(each)["uri"] == "https://models.example.com"
        assert inputs(graph.one("restApi:RestApi"))["disableExecuteApiEndpoint"] is True
        assert inputs(graph.one("basePathMapping:BasePathMapping"))["basePath"] == "v1"
        assert inputs(graph.one("acm/certificate:Certificate"))["validationMethod"] == "DNS"
        assert not [each for each in graph.resources if each["type"].startswith("tls:")]
        assert graph.outputs["api_url"] == "https://models.example.com/v1"

    def test_without_a_domain_the_certificate_is_self_signed_and_not_verified(self, graphs: dict[str, Any]) -> None:
        for each in graphs["local"].of_type("integration:Integration"):
            assert inputs(each)["tlsConfig"] == {"insecureSkipVerification": True}

    def test_a_ready_image_is_not_built(self, changed_graph: Changed) -> None:
        image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/server@sha256:" + "0" * 64
        graph = changed_graph(lambda config: config["modelkeep:fleet"].update(image=image))
        assert not [each for each in graph.resources if each["type"] == "docker-build:index:Image"]
        (policy,) = [each for each in graph.of_type("rolePolicy:RolePolicy") if each["name"] == "fleet-instance-policy"]
        (pull,) = [each for each in inputs(policy)["policy"]["Statement"] if each["Sid"] == "PullImage"]
        assert pull["Resource"] == ["arn:aws:ecr:eu-west-1:123456789012:repository/server"]

    def test_the_image_is_built_for_the_instances(self, changed_graph: Changed, graphs: dict[str, Any]) -> None:
        built = {stack: inputs(graph.one("docker-build:index:Image"))["buildArgs"] for stack, graph in graphs.items()}
        assert built["prod"] == {"VARIANT": "cuda"}
        assert built["local"] == {"VARIANT": "cpu"}
        index = "https://wheels.example.com/cpu"
        graph = changed_graph(lambda config: config["modelkeep:fleet"].update(wheel_index=index))
        assert inputs(graph.one("docker-build:index:Image"))["buildArgs"] == {"VARIANT": "cpu", "WHEEL_INDEX": index}

    def test_an_allow_list_reaches_the_firewall(self, changed_graph: Changed, graphs: dict[str, Any]) -> None:
        graph = changed_graph(lambda config: config["modelkeep:firewall"].update(allow_cidrs=["203.0.113.0/24"]))
        addresses = {each["name"]: inputs(each)["addresses"] for each in graph.of_type("ipSet:IpSet")}
        assert addresses["firewall-allowed"] == ["203.0.113.0/24"]
        open_to_all = {each["name"]: inputs(each)["addresses"] for each in graphs["prod"].of_type("ipSet:IpSet")}
        assert open_to_all["firewall-allowed"] == ["0.0.0.0/1", "128.0.0.0/1"]

    def test_a_schedule_is_scheduled(self, graphs: dict[str, Any]) -> None:
        scheduled = graphs["prod"].of_type("autoscaling/schedule:Schedule")
        schedules = {inputs(each)["scheduledActionName"] for each in scheduled}
        assert schedules == {"office-hours", "evening"}

    def test_settings_are_refused_before_any_resource_exists(self, changed_graph: Changed) -> None:
        with pytest.raises(ValueError, match="modelkeep:fleet: min 9 is above max 3"):
            changed_graph(lambda config: config["modelkeep:fleet"].update(min=9))
