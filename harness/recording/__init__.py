"""Frames on disk: one Parquet file, or a folder of them.

format     the columns, their encodings, the metadata
table      frames to columns, and back to the exact bytes
writer     one recording, whole and durable or not there at all
reader     row group by row group
tape       recordings to a timeline
store      its payload bytes, block by block
verify     proof that a recording is whole
places     files, folders, object stores
journal    what is on disk while a recorder runs
recovery   from journals to recordings
locks      locks that end with their process
"""

from harness.recording.format import FORMAT, SCHEMA, Metadata
from harness.recording.reader import Recording, open_recording
from harness.recording.tape import load_timeline
from harness.recording.writer import RecordingWriter

__all__ = ["FORMAT", "SCHEMA", "Metadata", "Recording", "RecordingWriter", "load_timeline", "open_recording"]
