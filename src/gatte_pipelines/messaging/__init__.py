"""Outbound channels: how a message leaves. What is sent and when belongs to the domains."""
