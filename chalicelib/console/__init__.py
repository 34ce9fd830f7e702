"""HTTP only: answers, cases, the log and the controls."""
