from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

from tests.support.fuzzing import is_full

# Before anything imports them: these modules assert for the tests.
pytest.register_assert_rewrite(
    "tests.conformance.outbox_table",
    "tests.conformance.stream_store",
    "tests.outbox.load",
    "tests.rounds.ledger",
    "tests.support.client",
    "tests.support.world",
)

pytest_plugins = ("tests.support.postgres",)

# A shell that starts us in the background lets us ignore Ctrl-C, and everything that we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The time of one example says nothing on a shared machine.
settings.register_profile("quick", max_examples=50, deadline=None)
settings.register_profile("full", max_examples=500, deadline=None, print_blob=True)
settings.load_profile("full" if is_full(os.environ) else "quick")
