"""Client and upstream languages: bytes to terms and back, without I/O."""
