"""AWS WAF: a web ACL compiled once into checks on a request."""

from local.edge.waf.evaluate import Firewall, Verdict
from local.edge.waf.inspected import Inspected
from local.edge.waf.rate import RateCounters

__all__ = ["Firewall", "Inspected", "RateCounters", "Verdict"]
