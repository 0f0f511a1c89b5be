"""Changes: one function per operation, called by every door. Synchronous: an event loop calls it on a thread."""
