"""What a package ships besides the programs: manual pages and shell completion.

They are made of the command lines themselves by `make share`, kept in `share/`, and
compared with the command lines by a test.
"""
