"""Batch jobs: a file of lines, asked through the flow, every result stored once."""

from greenroom.actors.batch.actor import Batch as Batch
from greenroom.actors.batch.actor import memory_of as memory_of
from greenroom.actors.batch.input.errors import BadInput as BadInput
from greenroom.actors.batch.input.errors import BadLine as BadLine
from greenroom.actors.batch.input.lines import Defaults as Defaults
from greenroom.actors.batch.input.options import JobOptions as JobOptions
from greenroom.actors.batch.input.options import job_options as job_options
from greenroom.actors.batch.input.options import read_params as read_params
from greenroom.actors.batch.input.reading import InputForm as InputForm
from greenroom.actors.batch.input.reading import form_of as form_of
from greenroom.actors.batch.input.scan import ModelShare as ModelShare
from greenroom.actors.batch.input.scan import Scan as Scan
from greenroom.actors.batch.input.scan import scan as scan
from greenroom.actors.batch.memory import Memory as Memory
from greenroom.actors.batch.messages import GetProgress as GetProgress
from greenroom.actors.batch.messages import JobProgress as JobProgress
from greenroom.actors.batch.messages import StopJob as StopJob
from greenroom.actors.batch.records import ChangedInput as ChangedInput
from greenroom.actors.batch.records import JobRefused as JobRefused
from greenroom.actors.batch.records import JobRequest as JobRequest
from greenroom.actors.batch.records import OpenJob as OpenJob
from greenroom.actors.batch.records import OtherJob as OtherJob
from greenroom.actors.batch.records import absolute as absolute
from greenroom.actors.batch.records import default_out as default_out
from greenroom.actors.batch.records import open_job as open_job
from greenroom.actors.batch.results import OutputTaken as OutputTaken
