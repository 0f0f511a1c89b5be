"""DeepSeek."""

from types import MappingProxyType

from intertie.core.providers._compatible import Compatible, Quirks
from intertie.core.terms import Operation


class DeepSeek(Compatible):
    """Under load it keeps connections alive with blank lines or comments; an empty account is a 402.

    Cached input is counted as `prompt_cache_hit_tokens`.
    """

    kind = "deepseek"
    title = "DeepSeek"
    base_url = "https://api.deepseek.com/v1"
    catalogue = "deepseek"
    operations = frozenset({Operation.CHAT})
    quirks = Quirks(rename=MappingProxyType({"max_completion_tokens": "max_tokens"}))


ADAPTER = DeepSeek()
