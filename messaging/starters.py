"""A dozen texts for the usual moments of a loyalty program, to start a campaign from."""

from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True)
class Starter:
    """A text to start from, written in the members' language: it is not translated.

    `action_codes` are codes by which a site may know the action, the likeliest first; `icon` is one of
    static/icons.svg.
    """

    slug: str
    name: str | Promise
    moment: str | Promise
    body: str
    action_codes: tuple[str, ...]
    icon: str = "star"


STARTERS: tuple[Starter, ...] = (
    Starter(
        "welcome", _("Welcome"), _("A member joins the program"),
        "Welcome to the club, {{ first_name|friend }}! Your first points are waiting for you. Earn more with "
        "every order.",
        ("WELCOME", "SIGN_UP", "101"), "members",
    ),
    Starter(
        "points-earned", _("Points earned"), _("A purchase or another action earned points"),
        "Thanks, {{ first_name|friend }}! You just earned {{ points_delta|new }} points. Your balance is now "
        "{{ points|growing }}.",
        ("PURCHASE", "109"), "plus",
    ),
    Starter(
        "reward-available", _("Reward available"), _("The balance is enough for a reward"),
        "Good news, {{ first_name|friend }}: with {{ points|your }} points you can pick a reward. See what "
        "is waiting in your account.",
        ("REWARD_AVAILABLE",), "gift",
    ),
    Starter(
        "reward-redeemed", _("Reward redeemed"), _("A member redeemed points for a reward"),
        "Enjoy your reward, {{ first_name|friend }}! You have {{ points|some }} points left for the next one.",
        ("REDEEM", "REWARD_REDEEMED", "107"), "gift",
    ),
    Starter(
        "birthday", _("Birthday"), _("It is the member's birthday"),
        "Happy birthday, {{ first_name|friend }}! A little present is waiting in your account. It is yours "
        "for the next 7 days.",
        ("BIRTHDAY",), "calendar",
    ),
    Starter(
        "tier-up", _("New tier reached"), _("A member reached a higher tier"),
        "Congratulations, {{ first_name|friend }}! You are now {{ tier|in a new tier }}. Your new benefits "
        "start today.",
        ("TIER_UP", "TIER_CHANGE"), "star",
    ),
    Starter(
        "points-expiring", _("Points expire soon"), _("Points are about to expire"),
        "{{ first_name|Hello }}, {{ data.expiring_points|some }} of your points expire on {{ "
        "data.expires_on|soon }}. Use them before they are gone!",
        ("POINTS_EXPIRING",), "clock",
    ),
    Starter(
        "referral", _("Friend referred"), _("A friend whom the member referred made a purchase"),
        "Thank you for bringing a friend, {{ first_name|friend }}! {{ points_delta|Extra }} points have been "
        "added to your balance.",
        ("REFERRAL", "REFER_FRIEND"), "user",
    ),
    Starter(
        "win-back", _("We miss you"), _("A member has not bought anything for a while"),
        "We miss you, {{ first_name|friend }}! Your {{ points|loyalty }} points are still here. Come back "
        "this week and earn double.",
        ("WIN_BACK", "INACTIVE"), "refresh",
    ),
    Starter(
        "review-thanks", _("Thanks for the review"), _("A member wrote a review"),
        "Thanks for your review, {{ first_name|friend }}! It helps others choose, and earned you {{ "
        "points_delta|some }} points.",
        ("REVIEW", "WRITE_REVIEW"), "edit",
    ),
    Starter(
        "anniversary", _("Member anniversary"), _("A year since the member joined"),
        "Happy anniversary, {{ first_name|friend }}! Thank you for another year with us. We added a few "
        "points to celebrate.",
        ("ANNIVERSARY",), "flag",
    ),
    Starter(
        "order-returned", _("Order returned"), _("A return changed the balance"),
        "Your return is complete, {{ first_name|friend }}. Your points were adjusted by {{ points_delta|the "
        "order's points }}; the balance is {{ points|in your account }}.",
        ("RETURN", "ORDER_RETURN"), "back",
    ),
)  # fmt: skip


def starter(slug: str) -> Starter | None:
    """Return the starter of this name, None when there is none."""
    return next((one for one in STARTERS if one.slug == slug), None)
