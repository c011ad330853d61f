"""A host that publishes a price table."""

import json

from aiohttp import web
from aiohttp.test_utils import TestServer

TABLE = json.dumps(
    [
        {
            "id": "acme",
            "name": "Acme",
            "api_pattern": "https://acme\\.example",
            "models": [
                {"id": "m", "match": {"equals": "m"}, "prices": {"input_mtok": 3, "output_mtok": 4}},
                {
                    "id": "n",
                    "match": {"equals": "n"},
                    "prices": [
                        {"prices": {"input_mtok": 1}},
                        {
                            "constraint": {"start_date": "2026-01-01"},
                            "prices": {"input_mtok": {"base": 2, "tiers": [{"start": 10, "price": 5}]}},
                        },
                    ],
                    "price_variants": [{"when": {"processing": "batch"}, "prices": {"input_mtok": 1}}],
                },
            ],
        }
    ]
).encode()


class Host:
    """Serves `body` with `status`."""

    def __init__(self) -> None:
        self.body, self.status = TABLE, 200
        self.asked = 0
        app = web.Application()
        app.router.add_get("/data.json", self._answer)
        self.server = TestServer(app)

    @property
    def url(self) -> str:
        return str(self.server.make_url("/data.json"))

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(status=self.status, body=self.body)
