"""The written exceptions to the rules, for reviewers: what does not hold, where, why, and until when.

An exception that covers nothing any more, and one that has expired, fails `modelkeep policy`: take it out, or look
again and give it a new date.
"""

from datetime import date

from infra.policies.evaluate import Exemption

EVERY_STACK = frozenset({"*"})
FOR_TRYING = frozenset({"dev", "local"})  # not storage.protect_data
WITH_A_TRAIL = frozenset({"dev", "staging", "prod"})  # audit.trail
WITH_A_CANARY = frozenset({"prod"})  # canary
THE_STACK = "pulumi:pulumi:Stack::*"

EXEMPTIONS: tuple[Exemption, ...] = (
    # The trail.
    Exemption(
        rule="cloudtrail-everywhere",
        resource="modelkeep-local",
        stacks=frozenset({"local"}),
        reason="audit.trail is false here: the stack runs against emulators on one machine, whose calls never reach an "
        "AWS account that could record them",
        expires=date(2027, 11, 30),
    ),
    Exemption(
        rule="cloudtrail-on",
        resource="modelkeep-local",
        stacks=frozenset({"local"}),
        reason="as above: audit.trail is false, and there is no account on the emulators whose record would be missing",
        expires=date(2027, 11, 30),
    ),
    Exemption(
        rule="s3-no-other-key",
        resource="audit-trail",
        stacks=WITH_A_TRAIL,
        reason="its policy denies s3:PutObject to all but CloudTrail, which encrypts under the trail's key "
        "(cloudtrail-encrypted); a denial by key would also turn away digest files wherever they are under S3's own",
        expires=date(2027, 11, 30),
    ),
    Exemption(
        rule="s3-events",
        resource="audit-trail",
        stacks=WITH_A_TRAIL,
        reason="nothing would act on the arrival of a log file every few minutes; the events in it go to the log group "
        "of their own (cloudtrail-to-logs)",
        expires=date(2027, 11, 30),
    ),
    # What is the account's, not the stack's: two stacks of one account would take such a setting away from each other.
    Exemption(
        rule="s3-account-blocks-public-access",
        resource=THE_STACK,
        stacks=EVERY_STACK,
        reason="one setting per account; every bucket of the stack blocks public access itself "
        "(s3-blocks-public-access)",
        expires=date(2027, 5, 31),
    ),
    Exemption(
        rule="ebs-encrypted-by-default",
        resource=THE_STACK,
        stacks=EVERY_STACK,
        reason="one setting per account and region; the stack's only volumes are encrypted by the launch template, "
        "under its own key (launch-template-encrypted)",
        expires=date(2027, 5, 31),
    ),
    Exemption(
        rule="glue-catalog-encrypted",
        resource="usage-database",
        stacks=EVERY_STACK,
        reason="one setting per account and region, and for all of its databases; this one holds the names of the "
        "columns of usage records, which stand in this repository, and no row: those lie in the results bucket",
        expires=date(2027, 5, 31),
    ),
    # The hop between gateway and balancer.
    Exemption(
        rule="apigateway-client-certificate",
        resource="gateway-stage",
        stacks=EVERY_STACK,
        reason="API Gateway's client certificates are signed by themselves and an application load balancer verifies "
        "against CA certificates; the balancer admits the security group of the VPC link alone (group-by-reference)",
        expires=date(2027, 11, 30),
    ),
    Exemption(
        rule="apigateway-backend-verified",
        resource="aws:apigateway/integration:Integration::gateway-*",
        stacks=EVERY_STACK,
        reason="without api.domain the balancer's certificate is signed by itself and cannot be verified; the hop is "
        "encrypted, private, and ends at the balancer that integrationTarget names. With a domain, take this out",
        expires=date(2027, 5, 31),
    ),
    Exemption(
        rule="elb-deletion-protected",
        resource="balancer-alb",
        stacks=EVERY_STACK,
        reason="the balancer holds no data and the next pulumi up makes it again; protected, it would stop a stack "
        "from being taken down and a replacement from going through",
        expires=date(2027, 11, 30),
    ),
    # Buckets.
    Exemption(
        rule="s3-access-logged",
        resource="storage-logs",
        stacks=EVERY_STACK,
        reason="it is the log bucket: logging itself, each delivery would make the next "
        "(https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerLogs.html)",
        expires=date(2027, 11, 30),
    ),
    Exemption(
        rule="s3-own-key",
        resource="storage-logs",
        stacks=EVERY_STACK,
        reason="load balancers and S3 deliver access logs to no bucket under a KMS key of ours; it is under S3's own "
        "(https://docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html)",
        expires=date(2027, 11, 30),
    ),
    Exemption(
        rule="s3-object-lock",
        resource="storage-data",
        stacks=EVERY_STACK,
        reason="training data may have to be erased on a person's request before a lock would end; versions keep what "
        "was overwritten or deleted by mistake for 90 days",
        expires=date(2027, 11, 30),
    ),
    Exemption(
        rule="s3-object-lock",
        resource="storage-models",
        stacks=EVERY_STACK,
        reason="every file of an artefact is checked against its manifest before it is loaded, and versions keep what "
        "was overwritten or deleted by mistake for 90 days",
        expires=date(2027, 11, 30),
    ),
    Exemption(
        rule="s3-object-lock",
        resource="storage-logs",
        stacks=EVERY_STACK,
        reason="S3 delivers access logs to no bucket with a default retention; instances and functions have no right "
        "to this one",
        expires=date(2027, 5, 31),
    ),
    Exemption(
        rule="s3-object-lock",
        resource="storage-results",
        stacks=EVERY_STACK,
        reason="requests and results of batches hold what users wrote, expire after storage.results_days, and have to "
        "go earlier when a person asks for it; versions keep what was deleted by mistake for 90 days",
        expires=date(2027, 11, 30),
    ),
    # Stacks that are made and taken down again, with storage.protect_data false; in staging and prod nothing goes so.
    Exemption(
        rule="s3-object-lock",
        resource="audit-trail",
        stacks=frozenset({"dev"}),
        reason="audit.lock_days is 0 here, so that the stack goes with its trail; log file validation shows whether a "
        "file was deleted, and the events stand in the log group as well",
        expires=date(2027, 11, 30),
    ),
    Exemption(
        rule="s3-no-force-destroy",
        resource="aws:s3/bucket:Bucket::*",
        stacks=FOR_TRYING,
        reason="storage.protect_data is false here: the stack is for trying things out and is taken down with full "
        "buckets; its models are published elsewhere, too, and its data is nobody's only copy",
        expires=date(2027, 11, 30),
    ),
    Exemption(
        rule="dynamodb-deletion-protected",
        resource="aws:dynamodb/table:Table::consumers-*",
        stacks=FOR_TRYING,
        reason="storage.protect_data is false here: the stack is taken down by one command, and its consumers are made "
        "again by one more; 35 days of point-in-time recovery outlive a table that was deleted by mistake",
        expires=date(2027, 11, 30),
    ),
    Exemption(
        rule="dynamodb-deletion-protected",
        resource="aws:dynamodb/table:Table::budgets-*",
        stacks=FOR_TRYING,
        reason="storage.protect_data is false here: the stack is taken down by one command, and how many tokens its "
        "consumers have used goes with it; the usage records say that as well",
        expires=date(2027, 11, 30),
    ),
    Exemption(
        rule="s3-events",
        resource="aws:s3/bucket:Bucket::storage-*",
        stacks=EVERY_STACK,
        reason="nothing would act on the events, but in the data bucket, which has them; who changed which object is "
        "in the access log, and in the log bucket every delivery would be one",
        expires=date(2027, 11, 30),
    ),
    # What is reached from where.
    Exemption(
        rule="vpc-ec2-endpoint",
        resource="network-vpc",
        stacks=EVERY_STACK,
        reason="nothing in the VPC calls EC2's API, and with neither internet gateway nor NAT no call could leave it",
        expires=date(2027, 5, 31),
    ),
    Exemption(
        rule="lambda-in-vpc",
        resource="functions-authorizer",
        stacks=EVERY_STACK,
        reason="the authorizer talks to DynamoDB and KMS alone, by TLS and its role; in the VPC it would be one more "
        "way in",
        expires=date(2027, 11, 30),
    ),
    Exemption(
        rule="lambda-in-vpc",
        resource="rollout-function",
        stacks=EVERY_STACK,
        reason="the rollout calls SSM and Auto Scaling by TLS and its role; nothing in the VPC is its business",
        expires=date(2027, 11, 30),
    ),
    Exemption(
        rule="lambda-in-vpc",
        resource="budget-alerts-function",
        stacks=EVERY_STACK,
        reason="the budgets' alerts call SNS alone, by TLS and their role; Lambda reads the table's stream for them",
        expires=date(2027, 11, 30),
    ),
    Exemption(
        rule="lambda-in-vpc",
        resource="training-start-function",
        stacks=EVERY_STACK,
        reason="what starts training calls S3 and AWS Batch by TLS and its role; nothing in the VPC is its business",
        expires=date(2027, 11, 30),
    ),
    Exemption(
        rule="lambda-in-vpc",
        resource="canary-function",
        stacks=WITH_A_CANARY,
        reason="the canary calls the API as a consumer does, by its public address, and the VPC has no way there",
        expires=date(2027, 11, 30),
    ),
    Exemption(
        rule="iam-no-managed-policy",
        resource="gateway-stage-log-policy",
        stacks=EVERY_STACK,
        reason="API Gateway refuses a log role that lacks what this policy of AWS's allows "
        "(https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-logging.html)",
        expires=date(2027, 11, 30),
    ),
)
