"""Looks at an installation and says what stands in the way; changes nothing.

Gets its checks handed in: what only one domain knows is found by that domain.
"""
