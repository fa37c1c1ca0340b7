"""What a fuzz target raises when it finds something, besides its peers' assertions."""


class FindingError(AssertionError):
    """What must not be."""
