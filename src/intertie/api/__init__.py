"""HTTP doors: inference for clients, the admin API, probes and metrics."""
