"""What ministack's EventBridge lacks: log groups as targets, each event in a stream of its own, as AWS writes it."""

import json
import uuid
from collections.abc import Mapping
from typing import Any

from ministack.services import cloudwatch_logs, eventbridge

_invoke: Any = eventbridge._invoke_target


def install() -> None:
    """Have ministack write what a rule matched to the log group that is its target."""
    eventbridge._invoke_target = invoke


def invoke(target: Mapping[str, Any], event: Mapping[str, Any], rule: Mapping[str, Any], view: Any = None) -> None:
    """Hand an event to a target of a rule; to a log group that is gone, nothing."""
    group = cloudwatch_logs._resolve_group_by_arn(target.get("Arn", ""))
    if group is None:
        _invoke(target, event, rule, view)
        return
    shown = view or eventbridge._pattern_event_view(event)
    names = {"logGroupName": group, "logStreamName": str(uuid.uuid4())}
    cloudwatch_logs._create_log_stream(names)
    line = {"message": json.dumps(shown.event_with_detail())}
    cloudwatch_logs._put_log_events({**names, "logEvents": [line]})
