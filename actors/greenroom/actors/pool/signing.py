"""Signed requests, for Amazon: Signature Version 4, by botocore, which also finds the credentials.

botocore is an extra (`greenroom[bedrock]`), imported when the first request is signed and in a thread, since that and
looking for credentials read files and may ask the network. Source: Amazon's "AWS Signature Version 4 for API requests".
"""

import asyncio
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from greenroom.actors.events import ProviderError, ProviderFailed

_REMEDY = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, log in with the aws command, or take a Bedrock API key: "
    'AWS_BEARER_TOKEN_BEDROCK, and no sign = "aws"'
)


class AwsSigner:
    """Signs requests with the credentials of the process: variables, profile, role, whatever botocore finds.

    Args:
        base_url: the endpoint, which says the region (`https://bedrock-runtime.eu-west-1.amazonaws.com`); where it
            does not, the region is botocore's default.
        service: what the signature is for.
    """

    def __init__(self, base_url: str, service: str = "bedrock") -> None:
        names = (urlsplit(base_url).hostname or "").split(".")
        places = [names[at + 1] for at, name in enumerate(names[:-1]) if name.startswith("bedrock")]
        self._region = places[0] if places else ""
        self._service = service
        self._finding = asyncio.Lock()
        # botocore has no types.
        self._credentials: Any = None

    async def headers(self, method: str, url: str, body: bytes) -> dict[str, str]:
        """The headers that sign a request: its date, its signature, and the session's token where there is one.

        Raises:
            ProviderFailed: with kind `authentication`: botocore is not installed, or finds no credentials.
        """
        async with self._finding:
            found = self._credentials
            if found is None or (hasattr(found, "refresh_needed") and found.refresh_needed()):
                found = await asyncio.to_thread(self._find)
        request = import_module("botocore.awsrequest").AWSRequest(method, url, data=body)
        frozen = found.get_frozen_credentials()
        import_module("botocore.auth").SigV4Auth(frozen, self._service, self._region).add_auth(request)
        return {str(name): str(value) for name, value in request.headers.items()}

    def _find(self) -> Any:
        try:
            import_module("botocore.auth")
            if self._credentials is None:
                session = import_module("botocore.session").get_session()
                self._credentials = session.get_credentials()
                self._region = self._region or session.get_config_variable("region") or "us-east-1"
        except ModuleNotFoundError:
            raise _failed("signing needs botocore: pip install 'greenroom[bedrock]'") from None
        except Exception as error:
            raise _failed(f"AWS credentials cannot be read: {error}; {_REMEDY}") from error
        if self._credentials is None:
            raise _failed(f"no AWS credentials were found: {_REMEDY}")
        try:
            self._credentials.get_frozen_credentials()
        except Exception as error:
            raise _failed(f"AWS credentials cannot be renewed: {error}; {_REMEDY}") from error
        return self._credentials


def _failed(message: str) -> ProviderFailed:
    return ProviderFailed(ProviderError(kind="authentication", message=message))
