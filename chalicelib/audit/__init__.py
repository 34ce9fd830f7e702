"""The ledger's own room: seal, verify, query, export."""
