from __future__ import annotations

import pytest

from orderflow import registry


@pytest.fixture(autouse=True)
def _forget():
    registry.clear()
    yield
    registry.clear()


def test_asking_before_it_is_set_says_what_to_do():
    with pytest.raises(registry.NotRegisteredError, match="start one and set"):
        _ = registry.order_flow_service
    assert not hasattr(registry, "order_flow_service")


def test_what_was_set_is_found_and_can_be_forgotten():
    service = object()
    registry.order_flow_service = service
    assert registry.order_flow_service is service
    registry.clear()
    registry.clear()
    with pytest.raises(LookupError):
        _ = registry.order_flow_service


def test_other_names_are_unknown_as_ever():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = registry.nothing
