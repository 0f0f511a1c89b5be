"""What it means when no secure connection to the gateway comes about, and what mends it."""

from __future__ import annotations

import ssl

from intertie.agent.problem import Problem


def explain(error: BaseException, origin: str) -> Problem | None:
    """What a failed handshake means and what mends it; `None` if this is no matter of TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        told = (error.verify_message or str(error)).lower()
        return Problem(f"{origin} is not trusted: {told}", _remedy(told), code="tls_not_trusted")
    if isinstance(error, ssl.SSLError):
        told = str(error)
        if "WRONG_VERSION_NUMBER" in told or "HTTP_REQUEST" in told:
            remedy = "it seems to speak plain HTTP there; check the port, or give the address with http://"
        else:
            remedy = "a proxy or firewall on the way may interfere; try from another network"
        return Problem(f"no secure connection to {origin}: {error.strerror or told}", remedy, code="tls_failed")
    return None


def _remedy(told: str) -> str:
    if "expired" in told or "not yet valid" in told:
        return "renew the gateway's certificate, or set this machine's clock if its date is wrong"
    if "hostname" in told or "ip address" in told:
        return "use the name that the certificate is for; the address may be misspelt"
    return (
        "if the gateway, or a proxy on the way, uses an authority of your own, add its certificate to the system's "
        "trust store or name its file in SSL_CERT_FILE"
    )
