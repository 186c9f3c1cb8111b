"""One question to a server, and what its answer means."""

import contextlib
import email.utils
import re
from collections.abc import Iterator, Mapping
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

TIMEOUT = (10, 30)  # seconds to connect, and between two reads
LONGEST_WAIT = 120  # seconds that a server may ask us to wait
PASSING = (408, 425, 429)  # as all of 500 and above: the same question may be answered later


class RefusedError(Exception):
    """This mirror doesn't serve the file; asking again is of no use."""


class LaterError(Exception):
    """This mirror may serve the file later: a lost connection, a busy server.

    The second argument is how many seconds it asks us to wait.
    """

    def __init__(self, reason: str, seconds: float = 0) -> None:
        super().__init__(reason)
        self.seconds = seconds


@contextlib.contextmanager
def ask(url: str, start: int, validator: str) -> Iterator[requests.Response]:
    """A server's answer to: the file from byte ``start`` on, if it is still this version.

    An answer is 200 (all of the file), 206 (a part) or 416 (no such part); its body is read in the
    block, and what goes wrong there is told as well.

    Raises:
        RefusedError: any other answer, a forbidden redirect.
        LaterError: a timeout, a lost connection, a busy server.
    """
    # "identity": the archive as it is, not once more compressed on the way.
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator
    hooks = {"response": _refuse_downgrade}
    try:
        with requests.get(
            url, stream=True, timeout=TIMEOUT, headers=headers, hooks=hooks
        ) as answer:
            _judge(answer)
            yield answer
    except requests.ConnectTimeout:
        raise LaterError(f"no connection within {TIMEOUT[0]} s") from None
    except (requests.Timeout, urllib3.exceptions.ReadTimeoutError):
        raise LaterError(f"no answer within {TIMEOUT[1]} s") from None
    except requests.exceptions.SSLError:
        raise RefusedError("no secure connection: its certificate was not accepted") from None
    except requests.ConnectionError:
        raise LaterError("no connection to that host") from None
    except requests.TooManyRedirects:
        raise RefusedError("it redirects in a circle") from None
    except requests.exceptions.InvalidSchema:
        raise RefusedError("only http and https are downloaded from") from None
    except requests.RequestException as error:
        raise RefusedError(" ".join(str(error).split())) from None
    except ValueError as error:  # of a redirect to what is no URL
        raise RefusedError(f"its answer makes no sense: {error}") from None
    except urllib3.exceptions.DecodeError:
        raise RefusedError("its compressed answer can't be decoded") from None
    except urllib3.exceptions.HTTPError:
        raise LaterError("the connection was lost") from None


def _refuse_downgrade(answer: requests.Response, **_: object) -> None:
    """Called for each answer before a redirect is followed: never from https down to http."""
    target = urljoin(answer.url, answer.headers.get("Location", ""))
    if answer.is_redirect and answer.url.startswith("https:") and urlsplit(target).scheme == "http":
        answer.close()
        raise RefusedError(f"it redirects from https to {target}, which is not secure")


def _judge(answer: requests.Response) -> None:
    if answer.status_code in (200, 206, 416):
        return
    reason = f"the server answered {answer.status_code} {answer.reason}".rstrip()
    if answer.status_code not in PASSING and answer.status_code < 500:
        raise RefusedError(reason)
    seconds = retry_after(answer.headers)
    if seconds > LONGEST_WAIT:
        raise RefusedError(f"{reason} and asks to come back in {seconds:,} s")
    raise LaterError(reason, seconds)


def retry_after(headers: Mapping[str, str]) -> int:
    """Seconds that an answer asks us to wait; 0 if it does not. RFC 9110, 10.2.3.

    A date is reckoned from the answer's own Date: our clock and the server's may differ.
    """
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]+", value):
        return int(value[:9])  # of any longer number what is left is a lifetime
    try:
        then = email.utils.parsedate_to_datetime(value)
        return max(
            0, int((then - email.utils.parsedate_to_datetime(headers["Date"])).total_seconds())
        )
    except (KeyError, ValueError, TypeError):
        return 0


def begins_at(answer: requests.Response, asked: int, total: int) -> int | None:
    """Which byte of a file of ``total`` bytes an answer begins with; None if it can't be used.

    A 200 begins at 0: the server knows no ranges, or the file is another version. A 206 must say in
    Content-Range that it begins where we asked, and is of a file of that length.
    """
    if answer.status_code == 200:
        return 0
    given = re.fullmatch(
        r"bytes (\d+)-(\d+)/(\d+)", answer.headers.get("Content-Range", "").strip()
    )
    return asked if given and (int(given[1]), int(given[3])) == (asked, total) else None


def length_of(answer: requests.Response) -> int | None:
    """The body's length in bytes as the server says, if it does."""
    value = answer.headers.get("Content-Length", "")
    return int(value) if re.fullmatch("[0-9]{1,18}", value) else None
