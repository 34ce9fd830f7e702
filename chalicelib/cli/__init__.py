"""The `redress` command; what it alone needs does not ship."""
