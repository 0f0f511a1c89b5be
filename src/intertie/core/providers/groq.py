"""Groq."""

from intertie.core.errors import UpstreamError
from intertie.core.providers._compatible import Compatible, Quirks
from intertie.core.terms import Operation
from intertie.core.wire.openai_errors import WireError


class Groq(Compatible):
    """Chat only. Dropped members are OpenAI's bookkeeping; what would change the answer is passed on, to be refused."""

    kind = "groq"
    title = "Groq"
    base_url = "https://api.groq.com/openai/v1"
    catalogue = "groq"
    operations = frozenset({Operation.CHAT})
    quirks = Quirks(drop=frozenset({"metadata", "prompt_cache_key", "safety_identifier", "store"}))

    def _judge(self, status: int, said: WireError, wait: float | None) -> UpstreamError:
        # 498: the flexible tier has no capacity now; nothing is wrong with the request or the key.
        return super()._judge(503 if status == 498 else status, said, wait)


ADAPTER = Groq()
