"""What a user can have done, each command in a module that is imported when it is used.

They turn arguments into values and values into text, and do nothing else.
"""
