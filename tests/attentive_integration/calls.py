"""Calls as a client of the vendors makes them, for the tests of what a call means and when it ends."""

import pytest

from attentive_integration.http import Answer, VendorError, call

TOKEN = "placeholder-token/1"


def post(url, **options) -> Answer:
    return call("POST", url, token=TOKEN, json={"to": "x"}, side_effect=True, **options)


def get(url, **options) -> Answer:
    return call("GET", url, token=TOKEN, side_effect=False, **options)


def failure(send, url, **options) -> VendorError:
    """Return the error of a call that must fail."""
    with pytest.raises(VendorError) as caught:
        send(url, **options)
    return caught.value
