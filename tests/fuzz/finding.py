"""What a target raises besides the assertions of the peers that it is checked by."""


class FindingError(AssertionError):
    """What must not be."""
