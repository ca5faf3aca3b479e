"""Scheduled pipelines around the database of GATTE's WhatsApp chatbot.

The layers and what may import what are described in docs/decisions/0001. This file stays empty of
code so that importing one module never pays for another.
"""
