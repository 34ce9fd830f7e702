"""The console as it is deployed: its rooms, built on what `bootstrap.front` gives."""

from chalicelib.adapters.slack import respond
from chalicelib.bootstrap import Front
from chalicelib.console.desk import Desk
from chalicelib.console.hooks import Heard
from chalicelib.console.oidc import Oidc
from chalicelib.console.reception import Console
from chalicelib.console.session import Session, Sessions
from chalicelib.console.slack import Counter
from chalicelib.console.web import Site
from chalicelib.domain.policy import policy_in
from chalicelib.domain.record import stamp
from chalicelib.flow import answering, errand, governing
from chalicelib.flow.answering import Said, Who


def console_of(front: Front) -> Console:
    """The pages, the buttons in Slack, and the webhooks of ticket systems."""
    settings, clock, secrets, store = front.settings, front.clock, front.secrets, front.store

    def answer(said: Said, who: Who) -> str:
        return answering.answer(said, who, store, clock, home=settings.account, engine=settings.version)[0]

    def sessions(site: Site) -> Sessions:
        # The template's first secret has one key; whoever rotates it writes a list.
        return Sessions(secrets.texts("session_keys") or secrets.texts("session_key"), clock, site)

    def viewed(session: Session, path: str, request_id: str) -> None:
        home, engine = settings.account, settings.version
        governing.viewed(store, clock, session.identity, path, request_id, home=home, engine=engine)

    def heard(one: Heard) -> None:
        ticket, reference = store.ticket(one.ticket), front.told.reference(one.ticket, one.integration)
        if ticket is None or reference is None or reference.key != one.key:
            return
        now = clock.now()
        name = f"{one.integration}:{one.key}:{stamp(now)}"
        order = errand.Heard(
            case=ticket.case, ticket=one.ticket, integration=one.integration, request_id=name
        )
        store.send(errand.notice(order, name, ticket.case, now))

    return Console(
        desk=Desk(
            home=settings.account,
            books=front.books,
            store=store,
            told=front.told,
            sessions=sessions,
            sign_in=Oidc(front.web, lambda name: secrets.texts("providers", name), clock),
            clock=clock,
            controls={control.id: control for control in front.catalog.controls},
            remediations={one.id: one for one in front.remediations},
            answer=answer,
            command=front.commands,
            viewed=viewed,
            limits=front.limits,
        ),
        counter=Counter(
            secrets=lambda: secrets.texts("slack_signing"),
            policy=lambda: policy_in(store),
            people=front.slack.person,
            answer=answer,
            tell=lambda url, text: respond(url, text, settings.slack_api),
            clock=clock,
        ),
        hook_secrets=lambda name: secrets.texts("hooks", name),
        heard=heard,
    )
