import pytest

from attentive_integration.secrets import SecretUnreadable
from loyalty.models import AccessToken, Member

from .factories import make_member, make_site, make_token, make_user

pytestmark = pytest.mark.django_db


def test_a_sealed_token_opens_only_in_its_own_row() -> None:
    ours, theirs = make_site(), make_site()
    token = make_token(ours, AccessToken.Kind.LOYALTY, "placeholder-loyalty")
    other = make_token(theirs, AccessToken.Kind.LOYALTY, "placeholder-other")
    assert token.reveal() == "placeholder-loyalty"
    assert "placeholder-loyalty" not in token.sealed_secret
    other.sealed_secret = token.sealed_secret
    with pytest.raises(SecretUnreadable):
        other.reveal()


def test_a_user_sees_the_rows_of_their_sites_only() -> None:
    ours, theirs = make_site(), make_site()
    mine, _ = make_member(ours), make_member(theirs)
    user = make_user(ours)
    assert list(Member.objects.visible_to(user)) == [mine]
    assert list(type(ours).objects.visible_to(user)) == [ours]
    assert list(Member.objects.visible_to(make_user())) == []
