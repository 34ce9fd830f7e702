"""Everything of Redress that ships, beside the remediations."""
