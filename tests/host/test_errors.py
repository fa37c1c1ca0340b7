import errno

from wlproxy.host.errors import HostError, UdmabufMissingError
from wlproxy.protocol.errors import WlproxyError


def test_tells_what_was_tried_and_the_remedy() -> None:
    error = HostError("no luck", errno=errno.EACCES, tried="open /x", remedy="Try y.")
    assert str(error) == "no luck (open /x: EACCES, Permission denied)\nTry y."
    assert error.explanation == "no luck (open /x: EACCES, Permission denied)"
    assert (error.problem, error.errno) == ("no luck", errno.EACCES)


def test_says_no_more_than_is_known() -> None:
    assert str(HostError("no luck")) == "no luck"
    assert str(HostError("no luck", tried="reading /x")) == "no luck (reading /x)"
    assert "errno" not in str(HostError("no luck", errno=99999))


def test_is_one_of_ours() -> None:
    assert issubclass(UdmabufMissingError, HostError)
    assert issubclass(HostError, WlproxyError)
