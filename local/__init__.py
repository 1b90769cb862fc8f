"""The same stack on one machine: engine, emulators, edge and fleet."""
