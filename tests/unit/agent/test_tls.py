"""What a failed handshake is called, and its remedy."""

from __future__ import annotations

import ssl

import pytest

from intertie.agent.tls import explain


def refused(words: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, words)
    error.verify_message = words
    return error


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (refused("certificate has expired"), "clock"),
        (refused("certificate is not yet valid"), "clock"),
        (refused("Hostname mismatch, certificate is not valid for 'x'."), "misspelt"),
        (refused("self-signed certificate"), "SSL_CERT_FILE"),
        (refused("unable to get local issuer certificate"), "SSL_CERT_FILE"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "plain HTTP"),
        (ssl.SSLError(1, "[SSL: TLSV1_ALERT] tlsv1 alert"), "another network"),
    ],
)
def test_each_failure_has_its_own_remedy(error: ssl.SSLError, remedy: str) -> None:
    problem = explain(error, "https://ai.example.com")

    assert problem is not None
    assert remedy in problem.remedy
    assert "https://ai.example.com" in problem.message


def test_other_failures_are_no_matter_of_tls() -> None:
    assert explain(ConnectionRefusedError(), "https://ai.example.com") is None
