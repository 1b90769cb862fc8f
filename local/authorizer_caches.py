"""FlushStageAuthorizersCache for moto, which does not know it: the stage says when that was, for the edge to do it.

moto has no cache to flush; the edge has. It learns of a flush by the stage's lastUpdatedDate, which moto never sets.
"""

import time
from typing import Any

from moto.apigateway import urls
from moto.apigateway.models import Stage
from moto.apigateway.responses import APIGatewayResponse

_PATH = "{0}/restapis/(?P<function_id>[^/]+)/stages/(?P<stage_name>[^/]+)/cache/authorizers$"
_FLUSHED = "flushed_at"
_to_json = Stage.to_json


def install() -> None:
    """Have moto answer FlushStageAuthorizersCache."""
    urls.url_paths[_PATH] = APIGatewayResponse.dispatch
    setattr(APIGatewayResponse, flush_stage_authorizers_cache.__name__, flush_stage_authorizers_cache)
    Stage.to_json = to_json  # type: ignore[method-assign]


def flush_stage_authorizers_cache(self: APIGatewayResponse) -> Any:
    """Note the time on the stage; raises moto's StageNotFoundException."""
    parts = self.path.split("/")
    vars(self.backend.get_stage(parts[2], parts[4]))[_FLUSHED] = time.time()
    return 202, {}, ""


def to_json(self: Stage) -> dict[str, Any]:
    """The stage as moto answers it, with the time of the last flush."""
    content = _to_json(self)
    flushed_at = vars(self).get(_FLUSHED)
    return content if flushed_at is None else {**content, "lastUpdatedDate": flushed_at}
