"""A stand-in for both vendors over real HTTP, with a screen for each phone: `manage.py sandbox`.

One asyncio process holds everything in memory. A request goes through application.py: whose token it is, whether the
pace is kept, whether a fault was ordered; then a rule answers it (attentive.py, segments.py, annex_cloud.py), what was
accepted is written to the ledger and synced, and only then the answer leaves.
"""
