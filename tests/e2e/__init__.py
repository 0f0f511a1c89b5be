"""Real processes: the gateway, official clients unmodified, and a real model."""
