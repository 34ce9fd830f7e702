"""What Redress knows, without touching anything: the standard library and pydantic only."""
