"""Changes: one function per operation, called by every door. Synchronous; doors that must not block call it on a thread."""
