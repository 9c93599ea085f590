"""Artifacts: all media of a project in one ZIP on the CDN.

Recorded sizes and CRCs decide every byte of the ZIP's layout before a file is read. So parts are sent in parallel, in
any order, in bounded memory.
"""
