"""Batch jobs: a file of lines, asked through the flow, every result stored once."""

from greenroom.actors.batch.actor import Batch as Batch
from greenroom.actors.batch.actor import GetProgress as GetProgress
from greenroom.actors.batch.actor import JobProgress as JobProgress
from greenroom.actors.batch.actor import StopJob as StopJob
from greenroom.actors.batch.actor import WaitJob as WaitJob
from greenroom.actors.batch.lines import BadLine as BadLine
from greenroom.actors.batch.lines import Defaults as Defaults
from greenroom.actors.batch.records import ChangedInput as ChangedInput
from greenroom.actors.batch.records import JobRefused as JobRefused
from greenroom.actors.batch.records import JobRequest as JobRequest
from greenroom.actors.batch.records import OpenJob as OpenJob
from greenroom.actors.batch.records import OtherJob as OtherJob
from greenroom.actors.batch.records import absolute as absolute
from greenroom.actors.batch.records import default_out as default_out
from greenroom.actors.batch.records import open_job as open_job
from greenroom.actors.batch.results import OutputTaken as OutputTaken
from greenroom.actors.batch.scan import ModelShare as ModelShare
from greenroom.actors.batch.scan import Scan as Scan
from greenroom.actors.batch.scan import scan as scan
