"""Past one machine: pictures by the million on a cluster of Ray."""
