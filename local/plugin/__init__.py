"""The local providers over Pulumi's own gRPC protocol, for whoever has the Pulumi CLI."""

from __future__ import annotations

from local.plugin.packages import Package, packages
from local.plugin.server import PluginServers

__all__ = ["Package", "PluginServers", "packages"]
