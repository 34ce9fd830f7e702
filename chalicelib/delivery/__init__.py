"""Delivery: what people are told, made from what stands, and brought where they read it. Pure, but for the ports."""
