"""The one way through the house: intake, classify, gate, assess, plan, decide, act, verify, record, notify."""
