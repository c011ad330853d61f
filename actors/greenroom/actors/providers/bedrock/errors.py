"""What failures mean on Bedrock's wire: by the name of the exception, which stands in a header, or in `__type`.

Shapes: Amazon Bedrock API reference, "Converse", Errors, and "Common errors".
"""

from collections.abc import Mapping

import msgspec
from msgspec import Struct, field

from greenroom.actors.events import ErrorKind, ProviderError
from greenroom.actors.providers.faults import excerpt, kind_of_status, shortened
from greenroom.actors.providers.headers import retry_after_s

REQUEST_ID_HEADER = "x-amzn-requestid"

_KIND_BY_NAME: dict[str, ErrorKind] = {
    "AccessDeniedException": "permission",
    "NotAuthorized": "permission",
    "OptInRequired": "permission",
    "UnrecognizedClientException": "authentication",
    "InvalidSignatureException": "authentication",
    "IncompleteSignature": "authentication",
    "ExpiredTokenException": "authentication",
    "MissingAuthenticationTokenException": "authentication",
    "InvalidClientTokenId": "authentication",
    "ResourceNotFoundException": "not_found",
    "ValidationException": "invalid_request",
    "ValidationError": "invalid_request",
    "ThrottlingException": "rate_limited",
    "ServiceQuotaExceededException": "rate_limited",
    "ModelNotReadyException": "overloaded",
    "ServiceUnavailableException": "overloaded",
    "ServiceUnavailable": "overloaded",
    "ModelTimeoutException": "timeout",
    "ModelErrorException": "server",
    "ModelStreamErrorException": "server",
    "InternalServerException": "server",
    "InternalFailure": "server",
}


class _Failure(Struct, gc=False):
    type: str = field(name="__type", default="")
    message: str | None = None
    shouted: str | None = field(name="Message", default=None)


_decode_failure = msgspec.json.Decoder(_Failure).decode


def failure(
    provider: str, status: int, headers: Mapping[str, str], body: bytes, now_s: float
) -> ProviderError:
    """A non-2xx answer as an error; see `Codec.failure`."""
    found = _find(body)
    name = _bare(headers.get("x-amzn-errortype") or found.type)
    return ProviderError(
        kind=_KIND_BY_NAME.get(name) or kind_of_status(status),
        message=shortened(found.message or found.shouted or "") or f"HTTP {status}: {excerpt(body)}",
        provider=provider,
        status=status,
        code=name or None,
        request_id=headers.get(REQUEST_ID_HEADER),
        retry_after_s=retry_after_s(headers, now_s),
    )


def in_mid_stream(name: str, payload: bytes) -> ProviderError:
    """An exception within a stream, which begins with a small letter there."""
    name = _bare(name)
    name = name[:1].upper() + name[1:]
    found = _find(payload)
    return ProviderError(
        kind=_KIND_BY_NAME.get(name, "server"),
        message=shortened(found.message or found.shouted or "") or excerpt(payload) or name,
        code=name or None,
    )


def _bare(name: str) -> str:
    """The exception alone: `com.amazon.coral#ThrottlingException:http://...` is a ThrottlingException."""
    return name.partition(":")[0].rpartition("#")[2]


def _find(body: bytes) -> _Failure:
    try:
        return _decode_failure(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Failure()
