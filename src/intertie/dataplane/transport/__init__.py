"""The only network I/O on the request path."""
