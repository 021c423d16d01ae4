from django.conf import settings
from django.db import migrations, models

from attentive_integration.online_indexes import AddIndexOnline


class Migration(migrations.Migration):

    # The tables may be large, so PostgreSQL builds these while others go on writing.
    atomic = False

    dependencies = [
        ('loyalty', '0008_import_undo_phase'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        AddIndexOnline(
            model_name='auditentry',
            index=models.Index(fields=['event', '-at'], name='audit_event'),
        ),
        AddIndexOnline(
            model_name='auditentry',
            index=models.Index(fields=['actor', '-at'], name='audit_actor'),
        ),
        AddIndexOnline(
            model_name='auditentry',
            index=models.Index(fields=['target'], name='audit_target', opclasses=['varchar_pattern_ops']),
        ),
        AddIndexOnline(
            model_name='loyaltyaction',
            index=models.Index(condition=models.Q(('outcome', ''), _negated=True), fields=['site', 'outcome', '-recorded_at'], name='action_site_outcome'),
        ),
        AddIndexOnline(
            model_name='consent',
            index=models.Index(condition=models.Q(('channel', 'TEXT'), ('state', 'TO_ASK')), fields=['site', 'id'], name='consent_text_to_ask'),
        ),
        migrations.RemoveIndex(
            model_name='consent',
            name='consent_to_ask',
        ),
    ]
