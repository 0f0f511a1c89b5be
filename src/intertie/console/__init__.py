"""The web door: server-rendered pages, one module and one template each."""
