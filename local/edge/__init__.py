"""The API Gateway and WAF data plane on one machine, read from the deployed configuration."""

from local.edge.app import Edge, create_edge

__all__ = ["Edge", "create_edge"]
