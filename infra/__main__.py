"""The stack, from its settings to its outputs."""

from pathlib import Path

import pulumi
import pulumi_aws as aws
from pulumi import InvokeOptions, ResourceOptions

from infra.components.audit import Audit, AuditArgs
from infra.components.balancer import Balancer, BalancerArgs
from infra.components.budget_alerts import BudgetAlerts, BudgetAlertsArgs
from infra.components.budgets import Budgets, BudgetsArgs
from infra.components.canary import Canary, CanaryArgs
from infra.components.capacity import Capacity, CapacityArgs
from infra.components.certificate import Certificate, CertificateArgs
from infra.components.consumers import Consumers, ConsumersArgs
from infra.components.firewall import Firewall, FirewallArgs
from infra.components.fleet import Fleet, FleetArgs
from infra.components.functions import Functions, FunctionsArgs, authorizer_role_name
from infra.components.gateway import Gateway, GatewayArgs
from infra.components.image import Image, ImageArgs
from infra.components.instance import instance_role_name
from infra.components.logs import Logs, LogsArgs
from infra.components.network import Network, NetworkArgs
from infra.components.observability import Observability
from infra.components.promotions import Promotions, PromotionsArgs
from infra.components.rollout import Rollout, RolloutArgs
from infra.components.signing import Signing, SigningArgs
from infra.components.storage import Storage, StorageArgs
from infra.components.training import Training, TrainingArgs
from infra.components.usage import Usage, UsageArgs
from infra.components.watched import ObservabilityArgs
from infra.settings import load_settings
from infra.site import Site, tags

# Settings, checked before anything exists, and the account they are for. Every resource gets the provider's tags.
settings = load_settings(pulumi.Config())
project, stack, region = pulumi.get_project(), pulumi.get_stack(), settings.region
provider = aws.Provider("aws", region=region, default_tags={"tags": tags(project=project, stack=stack)})
account_id = aws.get_caller_identity_output(opts=InvokeOptions(provider=provider)).account_id
site = Site(
    project=project, stack=stack, region=region, account_id=account_id, root=Path(__file__).resolve().parents[1]
)
on_aws = ResourceOptions(provider=provider)

# Where every component logs to, and the network without a way out.
logs = Logs("logs", LogsArgs(site=site, retention_days=settings.audit.retention_days), opts=on_aws)
network = Network(
    "network", NetworkArgs(site=site, network=settings.network, fleet=settings.fleet, logs=logs), opts=on_aws
)

# What is kept: models, data, results, access logs, the key that signs models, what was promoted, images.
protect_data = settings.storage.protect_data
storage = Storage(
    "storage",
    StorageArgs(
        site=site,
        storage=settings.storage,
        log_retention_days=settings.audit.retention_days,
        reader_role_name=instance_role_name(site),
    ),
    opts=on_aws,
)
signing = Signing("signing", SigningArgs(site=site, reader_role_name=instance_role_name(site)), opts=on_aws)
promotions = Promotions("promotions", PromotionsArgs(site=site), opts=on_aws)
budgets = Budgets("budgets", BudgetsArgs(site=site, protect_data=protect_data), opts=on_aws)
usage = Usage("usage", UsageArgs(site=site, results=storage.results, logs=logs), opts=on_aws)
image = Image("image", ImageArgs(site=site, fleet=settings.fleet, protect_data=protect_data), opts=on_aws)
consumers = Consumers(
    "consumers",
    ConsumersArgs(site=site, reader_role_name=authorizer_role_name(site), protect_data=protect_data),
    opts=on_aws,
)

# What serves: a private balancer, and the instances behind it.
certificate = Certificate(
    "certificate", CertificateArgs(domain=settings.api.domain, hosted_zone_id=settings.api.hosted_zone_id), opts=on_aws
)
balancer = Balancer(
    "balancer",
    BalancerArgs(network=network, certificate=certificate, log_bucket=storage.logs, settings=settings),
    opts=on_aws,
)
fleet = Fleet(
    "fleet",
    FleetArgs(
        site=site,
        settings=settings,
        network=network,
        balancer=balancer,
        image=image,
        models=storage.models,
        signing=signing,
        promotions=promotions,
        budgets=budgets,
        usage=usage,
        logs=logs,
    ),
    opts=on_aws,
)

# What guards: the authorizer, the firewall, and the gateway that calls both.
functions = Functions(
    "functions", FunctionsArgs(site=site, settings=settings, consumers=consumers, logs=logs), opts=on_aws
)
firewall = Firewall("firewall", FirewallArgs(site=site, firewall=settings.firewall, logs=logs), opts=on_aws)
gateway = Gateway(
    "gateway",
    GatewayArgs(
        site=site,
        settings=settings,
        certificate=certificate,
        balancer=balancer,
        functions=functions,
        firewall=firewall,
        logs=logs,
    ),
    opts=on_aws,
)

# What watches, and what calls to see that all of it works.
canary = Canary("canary", CanaryArgs(site=site, settings=settings, gateway=gateway, logs=logs), opts=on_aws)
observability = Observability(
    "observability",
    ObservabilityArgs(site=site, settings=settings, gateway=gateway, balancer=balancer, fleet=fleet, canary=canary),
    opts=on_aws,
)
Capacity(
    "capacity",
    CapacityArgs(site=site, group_name=site.name, logs=logs, topic_arn=observability.topic_arn),
    opts=on_aws,
)
BudgetAlerts(
    "budget-alerts",
    BudgetAlertsArgs(
        site=site, budgets=budgets, usage_stream=usage.stream_name, logs=logs, observability=observability
    ),
    opts=on_aws,
)

# What brings another version of a model to the instances, and back.
rollout = Rollout(
    "rollout",
    RolloutArgs(
        site=site,
        settings=settings,
        group_name=site.name,
        failing_alarm=fleet.failing_alarm,
        promotions=promotions,
        logs=logs,
        topic_arn=observability.topic_arn,
    ),
    opts=on_aws,
)

# What trains models: in AWS Batch, started by a configuration in the data bucket.
training = Training(
    "training",
    TrainingArgs(
        site=site,
        settings=settings,
        network=network,
        image=image,
        storage=storage,
        signing=signing,
        promotions=promotions,
        logs=logs,
        topic_arn=observability.topic_arn,
    ),
    opts=on_aws,
)

# What is recorded, and what it may cost.
Audit(
    "audit",
    AuditArgs(
        site=site,
        audit=settings.audit,
        budget=settings.budget,
        protect_data=protect_data,
        storage=storage,
        logs=logs,
        topic_arn=observability.topic_arn,
    ),
    opts=on_aws,
)

pulumi.export("api_url", gateway.api_url)
pulumi.export("api_id", gateway.api_id)
pulumi.export("stage_name", gateway.stage_name)
pulumi.export("usage_plan_ids", gateway.usage_plan_ids)
pulumi.export("model_bucket", storage.models.id)
pulumi.export("signing_key_arn", signing.key_arn)
pulumi.export("promotions_parameter", promotions.name)
pulumi.export("rollout_function", rollout.function_name)
pulumi.export("models", {each.name: each.version for each in settings.models})
pulumi.export("data_bucket", storage.data.id)
pulumi.export("training_queue", training.queue_name)
pulumi.export("training_queues", training.queue_names)
pulumi.export("training_job_definition", training.job_definition_name)
pulumi.export("results_bucket", storage.results.id)
pulumi.export("budgets_table", budgets.table_name)
pulumi.export("usage_stream", usage.stream_name)
pulumi.export("usage_table", usage.table_name)
pulumi.export("plan_prices", settings.plan_prices)
pulumi.export("image_repository_url", image.repository_url)
pulumi.export("canary_secret", canary.secret_arn)
pulumi.export("alerts_topic", observability.topic_arn)
pulumi.export("dashboard_url", observability.dashboard_url)
pulumi.export("autoscaling_group", fleet.autoscaling_group)
pulumi.export("target_group_arn", balancer.target_group_arn)
pulumi.export("load_balancer_dns", balancer.dns_name)
pulumi.export("web_acl_arn", firewall.web_acl_arn)
pulumi.export("consumers_table", consumers.consumers_table)
pulumi.export("tokens_table", consumers.tokens_table)
pulumi.export("consumers_key_arn", consumers.secrets_key_arn)
pulumi.export("authorizer_cache_seconds", settings.api.authorizer_cache_seconds)
