from __future__ import annotations

import subprocess
import sys

import pytest

from server.http.origin import is_foreign_origin, is_loopback, is_loopback_host


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("10.0.0.1", False),
        ("example.org", False), ("", False), (None, False),
    ],
)  # fmt: skip
def test_loopback_addresses_are_this_machine(address: str | None, own: bool) -> None:
    assert is_loopback(address) is own


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost:8000", True), ("127.0.0.1", True), ("[::1]:8000", True), ("rebound.example:8000", False),
        ("[::1", False), ("", False), (None, False),
    ],
)  # fmt: skip
def test_a_host_header_names_this_machine_by_a_loopback_address_only(host: str | None, own: bool) -> None:
    assert is_loopback_host(host) is own


@pytest.mark.parametrize(
    ("origin", "host", "foreign"),
    [
        (None, "a:8000", False), ("http://a:8000", "a:8000", False), ("http://b", "a:8000", True),
        ("http://a", "a:8000", True), ("null", "a", True), ("http://[::1", "[::1]", True),
        ("http://a", None, True),
    ],
)  # fmt: skip
def test_a_page_of_another_site_is_foreign(origin: str | None, host: str | None, foreign: bool) -> None:
    assert is_foreign_origin(origin, host) is foreign


def test_it_loads_the_standard_library_alone() -> None:
    code = "import sys, server.http.origin; print('litestar' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
