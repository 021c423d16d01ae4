"""Re-encrypts every stored secret with the first of FIELD_ENCRYPTION_KEYS, so that older keys can be dropped."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from django.db.models import Model

from attentive_integration.secrets import key_names, key_of, reseal
from loyalty import audit
from loyalty.models import AccessToken, Site

# Every column that holds sealed text.
_SEALED: tuple[tuple[type[Model], str], ...] = ((AccessToken, "sealed_secret"), (Site, "sealed_suppression_key"))


@dataclass
class Rotation:
    """`resealed` values got the first key. `left` counts per key how many now need it; `unreadable` need a lost one."""

    resealed: int = 0
    left: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0

    @property
    def older_keys_are_unused(self) -> bool:
        return not self.unreadable and not any(self.left[name] for name in key_names()[1:])


def rotate(*, actor: str = "") -> Rotation:
    """Reseal what another key than the first has sealed. Safe to break off, to repeat, and to run beside live work."""
    done = Rotation(left=Counter(dict.fromkeys(key_names(), 0)))
    first = key_names()[0]
    for model, column, pk, sealed in _sealed_values():
        name = key_of(sealed)
        # A value that was replaced meanwhile is sealed with the first key already, so it is left alone.
        if name not in (None, first):
            unchanged = model._default_manager.filter(pk=pk, **{column: sealed})
            done.resealed += unchanged.update(**{column: reseal(sealed)})
    for _model, _column, _pk, sealed in _sealed_values():
        name = key_of(sealed)
        if name is None:
            done.unreadable += 1
        else:
            done.left[name] += 1
    audit.record("keys.rotated", actor=actor, new={"resealed": done.resealed, "unreadable": done.unreadable})
    return done


def _sealed_values() -> Iterator[tuple[type[Model], str, int, str]]:
    for model, column in _SEALED:
        rows = model._default_manager.exclude(**{column: ""}).order_by("pk").values_list("pk", column)
        for pk, sealed in rows.iterator(chunk_size=500):
            yield model, column, pk, sealed
