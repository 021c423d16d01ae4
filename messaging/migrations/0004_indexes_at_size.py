from django.db import migrations, models

from attentive_integration.online_indexes import AddIndexOnline


class Migration(migrations.Migration):

    # The tables may be large, so PostgreSQL builds these while others go on writing.
    atomic = False

    dependencies = [
        ('loyalty', '0009_indexes_at_size'),
        ('messaging', '0003_time_of_each_call'),
    ]

    operations = [
        AddIndexOnline(
            model_name='message',
            index=models.Index(fields=['site', 'campaign', 'state', '-created_at'], name='message_site_campaign'),
        ),
        AddIndexOnline(
            model_name='message',
            index=models.Index(condition=models.Q(('reason', ''), _negated=True), fields=['site', 'reason', 'state', '-created_at'], name='message_site_reason'),
        ),
        AddIndexOnline(
            model_name='webhookevent',
            index=models.Index(fields=['site', 'state', '-received_at'], name='webhook_site_state'),
        ),
        AddIndexOnline(
            model_name='message',
            index=models.Index(condition=models.Q(('lease_until__isnull', False)), fields=['lease_until'], name='message_lease'),
        ),
        AddIndexOnline(
            model_name='message',
            index=models.Index(condition=models.Q(('state', 'QUEUED')), fields=['expires_at'], name='message_queued_expiring'),
        ),
        AddIndexOnline(
            model_name='message',
            index=models.Index(condition=models.Q(('state', 'HELD')), fields=['expires_at'], name='message_held_expiring'),
        ),
        migrations.RemoveIndex(
            model_name='message',
            name='message_leased',
        ),
        migrations.RemoveIndex(
            model_name='message',
            name='message_expiring',
        ),
    ]
