"""Where a program keeps its service, so that other parts of it find it.

    from orderflow import registry

    registry.order_flow_service = service

Asking before it is set raises an error that says so, instead of giving a None that fails somewhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orderflow.order_flow_service import OrderFlowService

    order_flow_service: OrderFlowService


class NotRegisteredError(AttributeError, LookupError):
    """Nothing was registered under this name yet."""


def __getattr__(name: str) -> object:
    # Called only for names that the module does not have.
    if name == "order_flow_service":
        raise NotRegisteredError(
            "no order flow service is registered: start one and set orderflow.registry.order_flow_service to it"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def clear() -> None:
    """Forget what was registered."""
    globals().pop("order_flow_service", None)
