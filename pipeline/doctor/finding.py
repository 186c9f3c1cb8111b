"""What a check has found."""

from dataclasses import dataclass, replace

STATES = OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Finding:
    """What was found, in a line, and a remedy where it is not well.

    ``state`` is ``warn`` where something is slower or missing that not everybody needs, and
    ``fail`` where shardwell can't work.
    """

    state: str
    found: str
    remedy: str = ""
    check: str = ""

    def named(self, check: str) -> "Finding":
        """The same under the name of its check."""
        return replace(self, check=check)
