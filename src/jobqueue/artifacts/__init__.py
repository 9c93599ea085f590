"""Artifacts of a project's media: planned from recorded sizes and CRCs, sent in parallel, in bounded memory."""
