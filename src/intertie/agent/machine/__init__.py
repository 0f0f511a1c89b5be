"""What else an owner may wish about: battery, programs, GPU use, temperature. One file per thing, all systems in it.

Each reader blocks for at most its time limit, raises only `Unreadable`, and keeps its parsing apart from its reading.
"""
