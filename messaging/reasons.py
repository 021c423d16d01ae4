"""Why a message went, waits or did not go, and why an action became no message: every code, explained to staff."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy


class Code(StrEnum):
    """What stands in `Message.reason`, `LoyaltyAction.outcome` and on the page "why did this person get no SMS?"."""

    # The person.
    NOT_SUBSCRIBED = "NOT_SUBSCRIBED"
    OPTED_OUT = "OPTED_OUT"
    BLOCKED = "BLOCKED"
    ERASED = "ERASED"
    REPLACED = "REPLACED"
    COUNTRY = "COUNTRY"
    FREQUENCY_CAP = "FREQUENCY_CAP"
    QUIET_HOURS = "QUIET_HOURS"
    # The text.
    MISSING_VALUE = "MISSING_VALUE"
    BRACE = "BRACE"
    EMPTY = "EMPTY"
    TOO_LONG = "TOO_LONG"
    # The site and the campaign.
    TEST_MODE = "TEST_MODE"
    SITE_DRAFT = "SITE_DRAFT"
    SITE_PAUSED = "SITE_PAUSED"
    CAMPAIGN_PAUSED = "CAMPAIGN_PAUSED"
    CAMPAIGN_NOT_LIVE = "CAMPAIGN_NOT_LIVE"
    SHADOW = "SHADOW"
    CANARY = "CANARY"
    STOPPED = "STOPPED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    # The call.
    TOKEN_MISSING = "TOKEN_MISSING"
    TOKEN_REFUSED = "TOKEN_REFUSED"
    VENDOR_DOWN = "VENDOR_DOWN"
    RATE_LIMITED = "RATE_LIMITED"
    RETRYING = "RETRYING"
    RETRIES_SPENT = "RETRIES_SPENT"
    REFUSED = "REFUSED"
    UNMATCHED = "UNMATCHED"
    NO_ANSWER = "NO_ANSWER"
    LEASE_LOST = "LEASE_LOST"
    CONFIRMED = "CONFIRMED"
    RESOLVED_AS_SENT = "RESOLVED_AS_SENT"
    # The action, where it became no message (LoyaltyAction.Outcome; SITE_DRAFT is above).
    MATCHED = "MATCHED"
    NO_CAMPAIGN = "NO_CAMPAIGN"
    NOT_IN_SEGMENT = "NOT_IN_SEGMENT"
    OUTSIDE_WINDOW = "OUTSIDE_WINDOW"
    BEFORE_LIVE = "BEFORE_LIVE"
    TOO_OLD = "TOO_OLD"
    HISTORY = "HISTORY"


@dataclass(frozen=True)
class Reason:
    """A title, a cause and a remedy; whole sentences, the remedy empty when nothing need be done."""

    title: str
    cause: str
    remedy: str


def explain(code: str, **facts: Any) -> Reason:
    """Return what the code means to staff; an unknown or empty code gets a general sentence, never an error.

    Facts make the words more exact, each optional: `client`, `phone`, `country`, `countries`, `placeholder`, `hours`
    (until expiry), `status` (of the answer), `answer` (the vendor's own words), `until` (such as “at 9:00”) and
    `by`, all ready to be shown.
    """
    try:
        texts = _TEXTS[Code(code)]
    except ValueError:
        return Reason(
            title=_("Held back for a reason that has no explanation here."),
            cause=_("The code is “%(code)s”.") % {"code": str(code)[:60] or _("empty")},
            remedy=_("Look at the attempts below, or tell the developers this code."),
        )
    known = {name: str(word) for name, word in _GENERAL_WORDS.items()}
    known |= {name: str(fact).rstrip(".") for name, fact in facts.items() if fact not in (None, "")}
    title, cause, remedy = (str(text) % known if text else "" for text in texts)
    return Reason(title, cause, remedy)


_GENERAL_WORDS: dict[str, Promise] = {
    "client": gettext_lazy("this client"),
    "phone": gettext_lazy("this number"),
    "country": gettext_lazy("a country that this site does not text"),
    "countries": gettext_lazy("US, Canada and UK"),
    "placeholder": gettext_lazy("a placeholder"),
    "hours": gettext_lazy("the campaign's"),
    "status": gettext_lazy("see the attempts"),
    "answer": gettext_lazy("no words"),
    "until": gettext_lazy("when they end"),
    "by": gettext_lazy("A person"),
}

_Text = Promise | str
_TEXTS: dict[Code, tuple[_Text, _Text, _Text]] = {
    Code.NOT_SUBSCRIBED: (
        gettext_lazy("Not sent: not subscribed."),
        gettext_lazy(
            "There is no text subscription of %(phone)s with %(client)s: they never subscribed, or have not answered Y."
        ),
        gettext_lazy("Ask the member to subscribe. Later actions will then be texted; this one will not."),
    ),
    Code.OPTED_OUT: (
        gettext_lazy("Not sent: opted out."),
        gettext_lazy("Texts of %(client)s to %(phone)s were ended, by STOP or through your staff."),
        gettext_lazy("Nothing to do. Only the member can subscribe again."),
    ),
    Code.BLOCKED: (
        gettext_lazy("Not sent: blocked."),
        gettext_lazy("Your staff have blocked %(phone)s; no import or sign-up lifts that."),
        gettext_lazy("If the block is a mistake, a person with the right to lift it can do so on the member's page."),
    ),
    Code.ERASED: (
        gettext_lazy("Not sent: erased."),
        gettext_lazy("This person asked to be forgotten and must not be contacted."),
        gettext_lazy("Nothing to do. Take the person out of the lists that are still imported."),
    ),
    Code.REPLACED: (
        gettext_lazy("Not sent: the member has a new phone."),
        gettext_lazy("Since the action, another phone was imported for this loyalty ID."),
        gettext_lazy("Open the member's new entry; it needs a text subscription of its own."),
    ),
    Code.COUNTRY: (
        gettext_lazy("Not sent: country."),
        gettext_lazy("The country of %(phone)s is %(country)s. This site texts only %(countries)s numbers."),
        gettext_lazy(
            "Ask the member for a phone of one of these countries, or allow the country in the site's settings."
        ),
    ),
    Code.FREQUENCY_CAP: (
        gettext_lazy("Waits: this person got a text a short time ago."),
        gettext_lazy("The site's frequency caps limit the texts per person over all campaigns."),
        gettext_lazy("Nothing to do: it goes when the caps allow, or expires. Change the caps in the site's settings."),
    ),
    Code.QUIET_HOURS: (
        gettext_lazy("Quiet hours where the member is."),
        gettext_lazy("No text leaves in the site's quiet hours, nor outside the hours of the member's state."),
        gettext_lazy("A campaign set to wait sends %(until)s; one set not to send has let this text go."),
    ),
    Code.MISSING_VALUE: (
        gettext_lazy("Not sent: a value is missing."),
        gettext_lazy("Neither the member nor the action has a value for %(placeholder)s."),
        gettext_lazy(
            "Give the placeholder a fallback, such as {{ first_name|there }}, or add the value to the members' file."
        ),
    ),
    Code.BRACE: (
        gettext_lazy("Not sent: the text had a brace."),
        gettext_lazy("The value of %(placeholder)s holds { or }. Attentive drops such a text without an error."),
        gettext_lazy("Correct the value of the member or the action, or the campaign's text."),
    ),
    Code.EMPTY: (
        gettext_lazy("Not sent: the text was empty."),
        gettext_lazy("Nothing was left of the campaign's text after its placeholders were filled."),
        gettext_lazy("Write some words around the placeholders of the campaign."),
    ),
    Code.TOO_LONG: (
        gettext_lazy("Not sent: the text was too long."),
        gettext_lazy(
            "A value such as %(placeholder)s is longer than 500 characters, or the text takes over 10 SMS parts."
        ),
        gettext_lazy("Shorten the campaign's text, or correct the value that the action carries."),
    ),
    Code.TEST_MODE: (
        gettext_lazy("Not sent: test mode."),
        gettext_lazy("In test mode texts of %(client)s go only to the site's guest phones."),
        gettext_lazy("Add the phone to the guest phones, or go live. Texts left out in test mode are not sent later."),
    ),
    Code.SITE_DRAFT: (
        gettext_lazy("Not sent: the site is a draft."),
        gettext_lazy("When the action came in, %(client)s was not activated."),
        gettext_lazy("Finish the site's Activate page. Actions from before are never texted."),
    ),
    Code.SITE_PAUSED: (
        gettext_lazy("Held: the site is paused."),
        gettext_lazy("Sending for %(client)s is paused."),
        gettext_lazy("Resume the site to send what has not expired by then."),
    ),
    Code.CAMPAIGN_PAUSED: (
        gettext_lazy("Held: the campaign is paused."),
        gettext_lazy("The campaign of this text is paused."),
        gettext_lazy("Resume the campaign to send what has not expired by then."),
    ),
    Code.CAMPAIGN_NOT_LIVE: (
        gettext_lazy("Not sent: the campaign is not live."),
        gettext_lazy("The campaign is a draft, in review, or was withdrawn after the action."),
        gettext_lazy("Set the campaign live for the actions to come."),
    ),
    Code.SHADOW: (
        gettext_lazy("Not sent: shadow mode."),
        gettext_lazy("The campaign runs in shadow mode: it shows what it would have sent, and sends nothing."),
        gettext_lazy("When the texts look right, take the campaign out of shadow mode. This text will not be sent."),
    ),
    Code.CANARY: (
        gettext_lazy("Waits for the first recipients."),
        gettext_lazy("The campaign has texted its first recipients and waits for refusals and opt-outs among them."),
        gettext_lazy("It goes on by itself if all is well. To go on at once, end the trial on the campaign's page."),
    ),
    Code.STOPPED: (
        gettext_lazy("Held: sending was stopped."),
        gettext_lazy("%(by)s pressed “Stop everything”."),
        gettext_lazy("Resume sending, and choose whether what is held is sent or expires."),
    ),
    Code.CANCELLED: (
        gettext_lazy("Not sent: cancelled."),
        gettext_lazy("%(by)s cancelled this text before it left."),
        gettext_lazy("Nothing to do."),
    ),
    Code.EXPIRED: (
        gettext_lazy("Not sent: expired."),
        gettext_lazy("The text could not leave within %(hours)s hours of the action, and would come too late now."),
        gettext_lazy("See in the history what held it, and mend that. Change the expiry in the campaign."),
    ),
    Code.TOKEN_MISSING: (
        gettext_lazy("Held: waits for a token of %(client)s."),
        gettext_lazy("Messages need a Legacy API token (events: the key of the app), and none is entered."),
        gettext_lazy("Write to legacyapi@attentivemobile.com for a legacy token, and paste it on the Activate page."),
    ),
    Code.TOKEN_REFUSED: (
        gettext_lazy("Held: Attentive refused the token (%(status)s)."),
        gettext_lazy(
            "Messages need a Legacy API token; the key of the app does not work there. Or the token was replaced, or "
            "its app lacks the permission."
        ),
        gettext_lazy(
            "Write to legacyapi@attentivemobile.com and ask for a legacy token for %(client)s, then paste it on the "
            "Activate page. What is held goes on by itself."
        ),
    ),
    Code.VENDOR_DOWN: (
        gettext_lazy("Held: Attentive does not answer."),
        gettext_lazy("Several calls in a row failed, so this client's calls wait; one call at a time looks again."),
        gettext_lazy("Nothing to do: sending goes on by itself when Attentive answers."),
    ),
    Code.RATE_LIMITED: (
        gettext_lazy("Waits: Attentive's limit is reached."),
        gettext_lazy("Attentive asked for fewer calls a second (%(status)s); this text was not taken."),
        gettext_lazy("Nothing to do: it is tried again by itself."),
    ),
    Code.RETRYING: (
        gettext_lazy("Waits: Attentive did not take the text (%(status)s)."),
        gettext_lazy("The call surely did not get through, so nobody was texted."),
        gettext_lazy("Nothing to do: it is tried again by itself, with growing pauses."),
    ),
    Code.RETRIES_SPENT: (
        gettext_lazy("Not sent: every try failed."),
        gettext_lazy("Attentive did not take the text in any of the tries (%(status)s)."),
        gettext_lazy("Look at the attempts, and send it again from here once Attentive answers."),
    ),
    Code.REFUSED: (
        gettext_lazy("Attentive refused this text (%(status)s)."),
        gettext_lazy("Attentive answered: %(answer)s."),
        gettext_lazy("Check the member's phone and the campaign's text, link and picture."),
    ),
    Code.UNMATCHED: (
        gettext_lazy("Attentive does not know this number for %(client)s."),
        gettext_lazy("The phone is invalid or not an opted-in subscriber. Only opted-in people can be texted."),
        gettext_lazy("Check the subscription on the member's page."),
    ),
    Code.NO_ANSWER: (
        gettext_lazy("Not known whether this text went out."),
        gettext_lazy("Attentive took the request but did not answer. Sending again may text the person twice."),
        gettext_lazy("Wait for Attentive's report, or look in Attentive; then choose “Treat as sent” or “Send again”."),
    ),
    Code.LEASE_LOST: (
        gettext_lazy("Not known whether this text went out."),
        gettext_lazy("The worker ended during the call. Sending again may text the person twice."),
        gettext_lazy("Wait for Attentive's report, or look in Attentive; then choose “Treat as sent” or “Send again”."),
    ),
    Code.CONFIRMED: (
        gettext_lazy("Sent: Attentive reported it."),
        gettext_lazy("Attentive's own report (sms.sent) names this phone and this text."),
        "",
    ),
    Code.RESOLVED_AS_SENT: (
        gettext_lazy("Treated as sent."),
        gettext_lazy("%(by)s looked into it and decided that the text went out."),
        "",
    ),
    Code.MATCHED: (
        gettext_lazy("Became a message."),
        gettext_lazy("A campaign took this action up."),
        gettext_lazy("Open the message to see what became of it."),
    ),
    Code.NO_CAMPAIGN: (
        gettext_lazy("No campaign for this action."),
        gettext_lazy("No campaign of %(client)s, live or paused, belonged to this action when it came in."),
        gettext_lazy("Make a campaign for this action, or set the draft live; actions from before are never texted."),
    ),
    Code.NOT_IN_SEGMENT: (
        gettext_lazy("The member is not in the campaign's segment."),
        gettext_lazy("The campaign texts only members of its segment, and the member was not in it then."),
        gettext_lazy("If that is a surprise, compare the segment's rules with the member's values."),
    ),
    Code.OUTSIDE_WINDOW: (
        gettext_lazy("Outside the campaign's window."),
        gettext_lazy("The action happened before the campaign's start or after its end."),
        gettext_lazy("Change the campaign's window for the actions to come."),
    ),
    Code.BEFORE_LIVE: (
        gettext_lazy("Happened before going live."),
        gettext_lazy("The action is older than the moment at which the site or the campaign went live."),
        gettext_lazy("Nothing to do: old actions are never texted."),
    ),
    Code.TOO_OLD: (
        gettext_lazy("Older than the campaign's expiry."),
        gettext_lazy("When the action was handed over, more than %(hours)s hours had passed since it happened."),
        gettext_lazy("Have actions handed over sooner, or lengthen the expiry of the campaign."),
    ),
    Code.HISTORY: (
        gettext_lazy("Imported as history."),
        gettext_lazy("The action came with a file that was imported without texting anybody."),
        gettext_lazy("Nothing to do."),
    ),
}
