"""What failures mean on OpenAI's wire and on those of the hosts that speak it.

Shapes: OpenAI's published OpenAPI document (Error), and what compatible servers do otherwise: integer codes, errors
that are a bare string, fields of other types. Kinds come from the code, the type and the status, never from words.
"""

from collections.abc import Mapping

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from greenroom.actors.events import ErrorKind, ProviderError
from greenroom.actors.providers.faults import (
    MAX_CODE_CHARS,
    MAX_MESSAGE_CHARS,
    excerpt,
    kind_of_status,
    shortened,
)
from greenroom.actors.providers.headers import retry_after_s

_KIND_BY_CODE: dict[str, ErrorKind] = {
    "context_length_exceeded": "context_length",
    "string_above_max_length": "context_length",
    "exceed_context_size_error": "context_length",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "bio_policy": "content_filter",
    "misalignment_policy_violation": "content_filter",
    "image_content_policy_violation": "content_filter",
    "unsupported_parameter": "unsupported_capability",
    "unsupported_value": "unsupported_capability",
    "invalid_api_key": "authentication",
    "authentication_error": "authentication",
    "model_not_found": "not_found",
    # A spent account answers 429, but no waiting helps.
    "insufficient_quota": "permission",
    "billing_not_active": "permission",
    "rate_limit_exceeded": "rate_limited",
    "overloaded_error": "overloaded",
    # What Hugging Face's TGI calls error_type.
    "overloaded": "overloaded",
    "validation": "invalid_request",
    "generation": "server",
    "incomplete_generation": "server",
    "vector_store_timeout": "timeout",
    "data_residency_mismatch": "permission",
    "invalid_prompt": "invalid_request",
    "invalid_image": "invalid_request",
    "invalid_image_format": "invalid_request",
    "invalid_base64_image": "invalid_request",
    "invalid_image_url": "invalid_request",
    "invalid_image_mode": "invalid_request",
    "image_too_large": "invalid_request",
    "image_too_small": "invalid_request",
    "image_parse_error": "invalid_request",
    "image_file_too_large": "invalid_request",
    "image_file_not_found": "invalid_request",
    "empty_image_file": "invalid_request",
    "unsupported_image_media_type": "invalid_request",
    "failed_to_download_image": "invalid_request",
    "server_overloaded": "overloaded",
}


class OpenAIError(Struct, gc=False):
    """An error object, each of its fields whatever JSON the host put there."""

    message: Raw | UnsetType = UNSET
    type: Raw | UnsetType = UNSET
    param: Raw | UnsetType = UNSET
    code: Raw | UnsetType = UNSET
    http_status_code: Raw | UnsetType = UNSET  # Hugging Face's TGI, in mid-stream


class _Failure(Struct, gc=False):
    error: OpenAIError | str | None = None
    message: Raw | UnsetType = UNSET
    detail: Raw | UnsetType = UNSET
    type: Raw | UnsetType = UNSET
    code: Raw | UnsetType = UNSET
    error_type: Raw | UnsetType = UNSET


_decode_failure = msgspec.json.Decoder(_Failure).decode
_decode_any = msgspec.json.Decoder().decode


def failure(
    provider: str, status: int, headers: Mapping[str, str], body: bytes, now_s: float
) -> ProviderError:
    """A non-2xx answer as an error; see `Codec.failure`."""
    found = _find(body)
    error = as_error(found, status)
    return ProviderError(
        kind=error.kind,
        message=error.message or f"HTTP {status}: {excerpt(body)}",
        provider=provider,
        status=status,
        code=error.code,
        param=error.param,
        request_id=headers.get("x-request-id"),
        retry_after_s=retry_after_s(headers, now_s),
    )


def as_error(found: OpenAIError | str, status: int | None = None) -> ProviderError:
    """An error object as an error. In mid-stream there is no `status`; a numeric code stands in for one."""
    if isinstance(found, str):
        found = OpenAIError(message=Raw(msgspec.json.encode(found)))
    code, kind_of_error = _text(found.code, MAX_CODE_CHARS), _text(found.type, MAX_CODE_CHARS)
    if status is None:
        said = code or _text(found.http_status_code, MAX_CODE_CHARS)
        status = int(said) if said and said.isdecimal() and len(said) == 3 else 500
    kind = _KIND_BY_CODE.get(code or "") or _KIND_BY_CODE.get(kind_of_error or "")
    return ProviderError(
        kind=kind or kind_of_status(status),
        message=_text(found.message, MAX_MESSAGE_CHARS) or "",
        code=code or kind_of_error,
        param=_text(found.param, MAX_CODE_CHARS),
    )


def _find(body: bytes) -> OpenAIError:
    try:
        failure = _decode_failure(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return OpenAIError()
    if isinstance(failure.error, OpenAIError):
        return failure.error
    if failure.error is not None:
        said = Raw(msgspec.json.encode(failure.error))
        return OpenAIError(message=said, type=failure.error_type, code=failure.code)
    message = failure.detail if failure.message is UNSET else failure.message
    return OpenAIError(message=message, type=failure.type, code=failure.code)


def _text(value: Raw | UnsetType, length: int) -> str | None:
    """A field as text: a string as it is, null as nothing, any other JSON as it was written; at most `length`."""
    if value is UNSET:
        return None
    try:
        plain = _decode_any(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        plain = value
    if plain is None or plain == "":
        return None
    text = plain if isinstance(plain, str) else bytes(value).decode("utf-8", "replace")
    return shortened(text, length)
