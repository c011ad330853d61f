"""How the simulator behaves as a server on a network: how long it takes, and later what it limits and what goes wrong."""
