"""The server of llama.cpp, alone or inside other programs."""

from intertie.core.providers._compatible import Compatible


class LlamaCpp(Compatible):
    """Codes of its errors are numbers; the first event of a stream has `content: null`; answers carry `timings`."""

    kind = "llama_cpp"
    title = "llama.cpp"
    base_url = "http://127.0.0.1:8080/v1"
    bills_cancelled = False


ADAPTER = LlamaCpp()
