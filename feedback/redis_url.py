"""The URL of Redis, read once, so that all who connect verify its certificate in the same way.

The clients of the record and of Celery spell the options of TLS differently, and Celery's verifies
nothing unless it is told to.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

SCHEMES = ("redis", "rediss", "unix")
_VERIFY = {"required": "required", "optional": "optional", "none": "none"}
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS = ("ssl_cert_reqs", "ssl_check_hostname", *_FILES)
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def canonical(url: str) -> str:
    """Return a URL with its options spelled as redis-py does.

    Raises:
        ValueError: The scheme or an option is none that both clients know; the message says which
            are.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{each}://" for each in SCHEMES)
        raise ValueError(f"the URL of Redis begins with one of {known}, not {parts.scheme!r}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    known_here = {"redis": (), "rediss": _TLS, "unix": ("db",)}[parts.scheme]
    for name in options:
        if name not in known_here:
            allowed = (
                ", ".join(known_here) or "none; the database is the path, as in redis://host/1"
            )
            raise ValueError(
                f"the option {name!r} is not known for {parts.scheme}://: use {allowed}"
            )
    if "ssl_cert_reqs" in options:
        options["ssl_cert_reqs"] = _verification(options["ssl_cert_reqs"])
    if "ssl_check_hostname" in options:
        options["ssl_check_hostname"] = str(_truth(options["ssl_check_hostname"]))
    # urlunsplit would drop the two slashes of a URL without a host.
    query = f"?{urlencode(options, safe='/')}" if options else ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{query}"


def for_celery(url: str) -> tuple[str, dict[str, Any] | None]:
    """Return a canonical URL without options, and what Celery calls ``broker_use_ssl``.

    The second is None without TLS. Certificate and host name are verified unless the URL says
    otherwise, as redis-py does.
    """
    parts = urlsplit(url)
    if parts.scheme != "rediss":
        return url, None
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    options["ssl_cert_reqs"] = options.get("ssl_cert_reqs", "required")
    options["ssl_check_hostname"] = _truth(options.get("ssl_check_hostname", "true"))
    return urlunsplit(parts._replace(query="")), options


def _verification(word: str) -> str:
    found = _VERIFY.get(word.casefold().removeprefix("cert_"))
    if found is None:
        raise ValueError(f"ssl_cert_reqs is one of {', '.join(_VERIFY)}, not {word!r}")
    return found


def _truth(word: str) -> bool:
    found = _TRUTH.get(word.casefold())
    if found is None:
        raise ValueError(f"ssl_check_hostname is true or false, not {word!r}")
    return found
