"""The connections to one provider: the actor, the breaker that watches them, how they are made and signed."""

from greenroom.actors.pool.actor import CircuitOpen as CircuitOpen
from greenroom.actors.pool.actor import GetPoolStatus as GetPoolStatus
from greenroom.actors.pool.actor import Lease as Lease
from greenroom.actors.pool.actor import Outcome as Outcome
from greenroom.actors.pool.actor import Pool as Pool
from greenroom.actors.pool.actor import PoolStatus as PoolStatus
from greenroom.actors.pool.actor import Sockets as Sockets
from greenroom.actors.pool.actor import Warm as Warm
