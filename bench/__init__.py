"""Side-by-side measurements of gateways on one machine. Never part of the test run: figures depend on the machine."""
