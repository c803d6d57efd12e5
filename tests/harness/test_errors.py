"""Every mistake is one sentence that names the way out."""

from __future__ import annotations

import pytest

from harness import errors


def test_a_miss_names_the_nearest_word():
    said = errors.nearest("tcp.rest_peer", ["tcp.reset_peer", "tls.expired"], noun="fault")
    assert said == "unknown fault 'tcp.rest_peer'; did you mean 'tcp.reset_peer'?"


def test_a_word_like_no_other_gets_the_list():
    said = errors.nearest("xyzzy", ["none", "auto"], noun="retime")
    assert said == "unknown retime 'xyzzy'; there are: auto, none"


def test_where_there_is_nothing_to_choose_from_no_list_is_announced():
    assert errors.nearest("xyzzy", [], noun="name") == "unknown name 'xyzzy'; there are none"


@pytest.mark.parametrize("kind", [errors.UsageError, errors.SubjectError, errors.NetworkError])
def test_what_the_user_can_mend_exits_with_two(kind):
    assert kind("x").exit_code == 2


def test_our_own_bugs_exit_with_three():
    assert errors.HarnessBug("x").exit_code == 3


def test_errors_keep_their_data_in_fields():
    mistake = errors.PlanError("faults[0].kind", "unknown")
    assert (mistake.place, mistake.problem, str(mistake)) == ("faults[0].kind", "unknown", "faults[0].kind: unknown")
    torn = errors.RecordingError("a.parquet", "torn")
    assert (torn.path, str(torn)) == ("a.parquet", "a.parquet: torn")
