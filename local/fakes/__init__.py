"""Loopback servers that answer as Slack, an identity provider and ticket systems do, and refuse what those refuse."""
