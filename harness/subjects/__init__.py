"""The production code under test: loading it, finding its tap, health and stop, watching it.

Nothing of the subject is changed but what it cannot notice: its tap is wrapped, its logging is
listened to, its health is read from a thread of ours.
"""

from __future__ import annotations

from harness.subjects.health import HealthPoller
from harness.subjects.loading import Anatomy, anatomy, health_names, load
from harness.subjects.speech import Speech
from harness.subjects.tap import Tap, find_tap
from harness.subjects.tasks import TaskWatch

__all__ = ["Anatomy", "HealthPoller", "Speech", "Tap", "TaskWatch", "anatomy", "find_tap", "health_names", "load"]
