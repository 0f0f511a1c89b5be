"""SGLang's OpenAI-compatible server."""

from intertie.core.providers._compatible import Compatible


class SGLang(Compatible):
    """Takes both names of the output limit. Its errors have no `error` wrapper and numbers for codes."""

    kind = "sglang"
    title = "SGLang"
    base_url = "http://127.0.0.1:30000/v1"
    bills_cancelled = False


ADAPTER = SGLang()
