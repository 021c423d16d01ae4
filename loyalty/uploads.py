"""How uploaded files arrive: a disk that is full refuses the file, and not the page."""

from contextlib import suppress
from typing import Any

from django.core.files.uploadhandler import SkipFile, TemporaryFileUploadHandler

from loyalty.imports.files import reason_of


class UploadToDisk(TemporaryFileUploadHandler):
    """Writes an upload to a temporary file. One that cannot be written counts as not given; `upload_error` says why."""

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        try:
            self.file.write(raw_data)
        except OSError as error:
            self._refuse(error)
            raise SkipFile from None

    def file_complete(self, file_size: int) -> Any:
        try:
            return super().file_complete(file_size)
        except OSError as error:
            return self._refuse(error)

    def _refuse(self, error: OSError) -> None:
        self.request.upload_error = reason_of(error)  # type: ignore[union-attr]
        # Closing tries to write once more.
        with suppress(OSError):
            self.file.close()
