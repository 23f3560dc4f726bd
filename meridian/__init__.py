"""What applications import of MeridianDB: so far ``meridian.testing``, simulated clusters for their tests."""
