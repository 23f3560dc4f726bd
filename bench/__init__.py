"""`make bench`: PostgreSQL and Meridian side by side, same clients, alternating; writes bench/RESULTS.md."""
