"""The table of resource types that the local engine can make, and of what the emulators do not take."""

from __future__ import annotations

from collections.abc import Mapping

from local.types import (
    apigateway,
    audit,
    batch,
    compute,
    ec2,
    firewall,
    functions,
    identity,
    observability,
    secrets,
    storage,
    streams,
)
from local.types.spec import TypeSpec

TYPES: Mapping[str, TypeSpec] = {
    token: spec
    for module in (
        apigateway,
        audit,
        batch,
        compute,
        ec2,
        firewall,
        functions,
        identity,
        observability,
        secrets,
        storage,
        streams,
    )
    for token, spec in module.TYPES.items()
}

# "type" or "type.property" -> why. A type listed here is recorded and not made; a property listed here is not sent.
NOT_EMULATED: Mapping[str, str] = {
    "aws:acm/certificateValidation:CertificateValidation": "nobody answers DNS challenges here; taken as validated",
    "aws:apigateway/documentationPart:DocumentationPart": "moto has no documentation of APIs",
    "aws:apigateway/documentationVersion:DocumentationVersion": "moto has no documentation of APIs",
    "aws:apigateway/domainName:DomainName.endpointAccessMode": "moto forgets it; the edge has one host name",
    "aws:apigateway/domainName:DomainName.mutualTlsAuthentication": (
        "moto forgets it; the client's hop to the edge is plain, so nobody shows a certificate"
    ),
    "aws:apigateway/stage:Stage.documentationVersion": "moto has no documentation of APIs",
    "aws:cloudwatch/logDataProtectionPolicy:LogDataProtectionPolicy": (
        "ministack has none; the edge writes no execution log that it could mask"
    ),
    "aws:route53/record:Record": "the domain's zone is in no emulator; nobody resolves the domain here",
    "aws:scheduler/schedule:Schedule": (
        "the canary's API answers at another address than its own here, so a call by schedule could only fail"
    ),
    "aws:apigateway/integration:Integration.responseTransferMode": (
        "moto forgets it; the edge streams every HTTP_PROXY integration"
    ),
    "aws:apigateway/integration:Integration.integrationTarget": (
        "moto forgets it; the edge finds the balancer by the host name in the integration's uri"
    ),
    "aws:apigateway/integration:Integration.connectionId": "moto forgets it; the edge follows no link",
    "aws:lambda/eventSourceMapping:EventSourceMapping.bisectBatchOnFunctionError": (
        "ministack tries a batch again as a whole"
    ),
    "aws:lambda/eventSourceMapping:EventSourceMapping.functionResponseTypes": (
        "ministack takes no partial answer for a stream, so a change that could not be told of is not tried again"
    ),
    "aws:autoscaling/group:Group.capacityRebalance": "moto forgets it; there are no spot interruptions here",
    "aws:autoscaling/group:Group.defaultInstanceWarmup": "moto forgets it; the fleet waits for /ready instead",
    "aws:autoscaling/group:Group.instanceMaintenancePolicy": "moto forgets it",
    "aws:autoscaling/group:Group.instanceRefresh": "moto starts none at a change; the fleet does when it is told",
    "aws:autoscaling/group:Group.serviceLinkedRoleArn": "moto forgets it",
    "aws:batch/computeEnvironment:ComputeEnvironment.updatePolicy": "no machines are there that a change could replace",
    "aws:batch/jobQueue:JobQueue.jobStateTimeLimitActions": "moto forgets it; no job waits here for a machine",
    "docker-build:index:Image": "no container engine here; recorded with a digest of the build context's files",
}
