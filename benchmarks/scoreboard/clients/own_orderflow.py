"""The production system of this project, as `docs/orderflow.md` shows it: what a client that tells looks like."""

from orderflow.order_flow_service import OrderFlowService

DOCUMENTATION = "docs/orderflow.md"
Service = OrderFlowService
