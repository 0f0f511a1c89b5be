"""What process, fault and end-to-end tests share: a scripted upstream, a raw client and the gateway as a process."""
