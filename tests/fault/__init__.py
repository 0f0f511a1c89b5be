"""What happens when things break: upstreams, clients, the process itself. The books must balance every time."""
