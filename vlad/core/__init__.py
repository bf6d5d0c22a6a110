"""What a detector is made of, in three layers: scoring, stored, fitting. `AnomalyDetector` adds what it does."""
