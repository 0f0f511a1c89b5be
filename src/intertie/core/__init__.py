"""Decides. Pure code: no sockets, SQL, clock or randomness except as arguments."""
