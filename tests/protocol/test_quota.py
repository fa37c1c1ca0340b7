"""A share is taken of a quota, and given back to it."""

import pytest

from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.protocol.quota import Quota, Share


def test_a_share_has_a_limit_of_its_own() -> None:
    whole = Quota(10)
    one, two = Share(whole, 6), Share(whole, 6)
    assert one.take(6)
    assert not one.take(1)
    assert not two.take(5)
    assert two.take(4)

    one.give_back(2)
    assert two.take(2)
    assert not two.take(1)

    one.close()
    one.close()
    assert Share(whole, 10).take(4)
    assert not Share(whole, 10).take(1)


def test_no_more_is_given_back_than_was_taken() -> None:
    whole = Quota(10)
    assert whole.take(4)
    with pytest.raises(LocalProtocolError, match="5 given back of 4"):
        whole.give_back(5)
