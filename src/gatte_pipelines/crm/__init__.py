"""Leads in step with Pipedrive: its client, what its answers mean, the tokens they cost.

What both two-way syncs share (links, merge, outbox, conflicts) belongs to ``sync``.
"""
