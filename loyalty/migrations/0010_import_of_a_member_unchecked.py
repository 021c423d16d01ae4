import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('loyalty', '0009_indexes_at_size'),
    ]

    operations = [
        migrations.AlterField(
            model_name='member',
            name='created_by_import',
            field=models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='created_members', to='loyalty.importjob'),
        ),
    ]
