"""CloudWatch metrics as log lines in the embedded metric format: no call to AWS, no credentials."""

import asyncio
import time

from model_image.admission import Admission
from model_image.gpu import GpuError, find_program, gpu_use
from model_image.metrics import Metrics
from model_image.request_log import JsonLog

NAMESPACE = "modelkeep"
PERIOD_SECONDS = 10.0
# The format knows 1 and 60. Points 10 s apart are only kept apart at 1.
_HIGH_RESOLUTION = 1
_UNITS = {
    "BudgetFailures": "Count",
    "GpuMemoryUtilization": "Percent",
    "GpuUtilization": "Percent",
    "InFlightRequests": "Count",
    "QueuedRequests": "Count",
    "TokensPerSecond": "Count/Second",
    "ReadySeconds": "Seconds",
    "UsageRecordsLost": "Count",
}


def metric_line(*, stack: str, autoscaling_group: str, values: dict[str, float], at: float) -> dict[str, object]:
    """
    One line of the format; `at` in seconds since 1970.

    Source: "Specification: Embedded metric format" in AWS's CloudWatch User Guide.
    """
    metrics = [{"Name": name, "Unit": _UNITS[name], "StorageResolution": _HIGH_RESOLUTION} for name in values]
    dimensions = {"Stack": stack, "AutoScalingGroupName": autoscaling_group}
    return {
        "_aws": {
            "Timestamp": int(at * 1000),
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [list(dimensions)], "Metrics": metrics}],
        },
        **dimensions,
        **values,
    }


async def report(
    *,
    stack: str,
    autoscaling_group: str,
    admission: Admission,
    metrics: Metrics,
    log: JsonLog,
    ready_seconds: asyncio.Future[float],
) -> None:
    """
    Writes a line every ten seconds until cancelled; ReadySeconds, from process start, once; GPUs where there are.

    What failed is told where something did.
    """
    told_ready, told = False, metrics.failures()
    gpus, gpu_trouble = find_program(), ""
    while True:
        await asyncio.sleep(PERIOD_SECONDS)
        values = {
            "InFlightRequests": float(admission.inside),
            "QueuedRequests": float(metrics.queued_requests),
            "TokensPerSecond": metrics.take_tokens_made() / PERIOD_SECONDS,
        }
        failures = metrics.failures()
        values |= {name: count - told[name] for name, count in failures.items() if count > told[name]}
        told = failures
        if gpus is not None:
            try:
                values |= await gpu_use(gpus)
                gpu_trouble = ""
            except GpuError as error:
                if str(error) != gpu_trouble:
                    log.write("gpu_not_measured", level="warning", message=str(error))
                gpu_trouble = str(error)
        if ready_seconds.done() and not told_ready:
            values["ReadySeconds"] = ready_seconds.result()
            told_ready = True
        log.write_raw(metric_line(stack=stack, autoscaling_group=autoscaling_group, values=values, at=time.time()))
