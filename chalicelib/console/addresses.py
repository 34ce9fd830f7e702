"""Every address of the console, for API Gateway, which wants them listed. A test holds them to be those that pages answer."""

PRESSES = "/slack/interactions"
HOOKS = "/hooks/{integration}"

PAGES = (
    "/",
    "/approvals",
    "/cases",
    "/cases/{case}",
    "/log",
    "/controls",
    "/controls/{control}",
    "/exemptions",
    "/tickets",
    "/switches",
    "/people",
    "/login",
    "/login/return",
    "/login/{provider}",
    "/static/{name}",
)
"""Addresses that are looked at: GET, which changes nothing."""

FORMS = ("/cases/{case}/answer", "/cases/{case}/{command}", "/logout")
"""Where our own forms post. Whoever opens one, from a tab that was restored, is led back to the page that has the form."""

SIGNED = (PRESSES, HOOKS)
"""Where other systems post, proved by a signature over the body: a form from Slack, JSON from ticket systems."""
