"""The client of a Hub, and what its errors mean: one line each, without the token."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.errors import RemoteError, ShardwellError, UnreachableError
from pipeline.files import DISK_ERRORS

if TYPE_CHECKING:
    from huggingface_hub import HfApi

KIND = "dataset"  # of all repositories that are read or written
LOGIN = "log in with: hf auth login, or set HF_TOKEN"
AGAIN = "run the same command again"
CHANGED = f"somebody else changed it meanwhile; {AGAIN}"
STATUS = {
    400: "it refuses the request",
    401: f"it doesn't know this token; {LOGIN}",
    403: "this token may not do that there; take one that may write, or another name",
    409: "the name is taken",
    412: CHANGED,
    413: "the upload is larger than it takes",
    429: f"too many requests; {AGAIN}",
}
UNREACHABLE = {"TransportError", "ConnectionError", "TimeoutError", "OfflineModeIsEnabled"}


def client(endpoint: str | None) -> "HfApi":
    """The client of ``huggingface_hub``; its token comes from ``HF_TOKEN`` or ``hf auth login``.

    Raises:
        RemoteError: the token holds characters that no token has.
    """
    from huggingface_hub import HfApi

    token = _token()
    if token is not None and not re.fullmatch(r"[\x21-\x7e]+", token):
        raise RemoteError(f"the token holds blanks or other characters that none has; {LOGIN}")
    return HfApi(endpoint=endpoint, library_name="shardwell")


def check_writer(api: "HfApi", repository: str) -> None:
    """Raise RemoteError unless the token's user, or an organisation of theirs, has that name."""
    where, owner = f"{api.endpoint}/datasets/{repository}", repository.partition("/")[0]
    if _token() is None:
        raise RemoteError(f"{where}: no token; {LOGIN}")
    with hub_errors(where):
        told = api.whoami()
    names = [told["name"], *(org["name"] for org in told.get("orgs", []))]
    if owner not in names:
        raise RemoteError(f"{where}: this token may write to {', '.join(names)}, not to {owner}")
    role = told.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise RemoteError(f"{where}: this token may only read; take one that may write")


@contextmanager
def hub_errors(where: str) -> Iterator[None]:
    """What goes wrong with a Hub inside, as one line about ``where``.

    The libraries' errors share no class: hence the broad ``except``.

    Raises:
        UnreachableError: it does not answer, or says that it is out of order.
        RemoteError: whatever else it was. Errors of this machine's disk stay what they are.
    """
    try:
        yield
    except ShardwellError:
        raise
    except Exception as error:
        if _is_of_the_disk(error):
            raise
        kind = UnreachableError if _is_unreachable(error) else RemoteError
        raise kind(f"{where}: {_without_token(_reason(error))}") from None


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status in an error, or in those that it was made of."""
    statuses = (getattr(getattr(e, "response", None), "status_code", None) for e in _chain(error))
    return next((status for status in statuses if isinstance(status, int)), None)


def _reason(error: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"gated: ask for access on its page, then {LOGIN}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"no such dataset, or it is private and not yours; check the name, or {LOGIN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return "no such revision"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        if "xet-" in str(error):
            return "this Hub has no Xet; set HF_HUB_DISABLE_XET=1"
        return "a file of it is not there; was it published by shardwell?"
    status = status_of(error)
    if "xet-" in str(error) and status in (None, 404):
        return "this Hub has no Xet; set HF_HUB_DISABLE_XET=1"
    if status is not None:
        said = STATUS.get(status, f"the Hub is out of order; {AGAIN}" if status >= 500 else "")
        told = getattr(error, "server_message", None)
        return f"{said or 'it refuses'} (status {status}{f': {told}' if told else ''})"
    if _is_unreachable(error):
        return f"the Hub can't be reached, or the line was cut; {AGAIN}"
    return str(error) or type(error).__name__


def _is_unreachable(error: Exception) -> bool:
    status = status_of(error)
    if status is not None or "xet-" in str(error):
        return status is not None and status >= 500
    return any(kind.__name__ in UNREACHABLE for e in _chain(error) for kind in type(e).__mro__)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_the_disk(error: Exception) -> bool:
    """Whether it is the system's word about a file: no space, no right."""
    if not isinstance(error, OSError) or not error.errno:
        return False
    return error.filename is not None or error.errno in DISK_ERRORS


def _without_token(text: str) -> str:
    """One line, in which the token is not to be read, whatever a library may say."""
    token, line = _token(), " ".join(text.split())
    return line.replace(token, "(token)") if token else line


def _token() -> Any:
    from huggingface_hub import get_token

    return get_token()
