import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    # SQLite makes the table anew for this, so it is a transaction of its own.
    dependencies = [
        ('messaging', '0004_indexes_at_size'),
    ]

    operations = [
        # Nothing looks messages up by their campaign's version.
        migrations.AlterField(
            model_name='message',
            name='version',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='messages', to='messaging.campaignversion'),
        ),
    ]
