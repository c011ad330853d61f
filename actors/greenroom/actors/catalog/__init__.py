"""Which models there are, what they cost and can do, and which of them suits a call."""

from greenroom.actors.catalog.actor import Catalog as Catalog
from greenroom.actors.catalog.actor import ListModels as ListModels
from greenroom.actors.catalog.actor import Near as Near
from greenroom.actors.catalog.actor import ProviderModels as ProviderModels
from greenroom.actors.catalog.actor import Resolve as Resolve
from greenroom.actors.catalog.actor import TooManyChoices as TooManyChoices
from greenroom.actors.catalog.aliases import Alias as Alias
from greenroom.actors.catalog.cards import ModelCard as ModelCard
from greenroom.actors.catalog.cards import is_free as is_free
from greenroom.actors.catalog.records import Measured as Measured
from greenroom.actors.catalog.records import Records as Records
from greenroom.actors.catalog.records import RouteRecord as RouteRecord
from greenroom.actors.catalog.requirements import AUTO as AUTO
from greenroom.actors.catalog.requirements import Choice as Choice
from greenroom.actors.catalog.requirements import Choose as Choose
from greenroom.actors.catalog.requirements import NothingEligible as NothingEligible
from greenroom.actors.catalog.requirements import RejectedModel as RejectedModel
from greenroom.actors.catalog.requirements import Requirements as Requirements
from greenroom.actors.catalog.requirements import ScoredModel as ScoredModel
from greenroom.actors.catalog.requirements import Strategy as Strategy
from greenroom.actors.catalog.requirements import is_auto as is_auto
from greenroom.actors.catalog.routes import Route as Route
from greenroom.actors.catalog.routes import UnknownModel as UnknownModel
from greenroom.actors.catalog.routes import Unpriced as Unpriced
from greenroom.actors.catalog.routes import find_route as find_route
from greenroom.actors.catalog.shelf import Ask as Ask
