"""Close codes: which may stand in a close frame (RFC 6455 section 7.4, IANA's registry)."""

from palfrey.protocols.websocket.codes import Close, WebSocketError, may_be_sent


def test_which_may_be_sent():
    registered = [*range(1000, 1004), *range(1007, 1015)]
    assert [code for code in range(5100) if may_be_sent(code)] == [*registered, *range(3000, 5000)]
    assert not any(may_be_sent(code) for code in (-1, 65536, Close.NO_STATUS, Close.ABNORMAL))


def test_an_error_carries_its_code():
    error = WebSocketError(Close.TOO_BIG, "why")
    assert (error.code, error.reason, str(error)) == (1009, "why", "why")
