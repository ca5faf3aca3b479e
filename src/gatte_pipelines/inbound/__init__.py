"""Inbound WhatsApp traffic: webhook notification files into the nine tables, exactly once.

``envelope`` decodes (pure), ``ids`` mints message ids (pure), ``chunk`` collects what one
transaction loads, ``merge`` runs its SQL, ``load`` walks files, ``quarantine`` keeps and replays
what could not be loaded, ``idle`` ends what the clock ends. Outbound messages do not belong here.
"""
