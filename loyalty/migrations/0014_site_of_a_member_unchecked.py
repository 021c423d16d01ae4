import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('loyalty', '0013_names_of_rows'),
    ]

    operations = [
        migrations.AlterField(
            model_name='member',
            name='site',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='members', to='loyalty.site'),
        ),
    ]
