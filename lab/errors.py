"""The one exception of the lab, for failures that a person has to read about."""


class LabError(Exception):
    """The lab cannot go on; the message says why and what to do about it."""
