"""Our files in a real spreadsheet: LibreOffice opens each and finds no formula, and what it saves imports as it was.

Members, loyalty IDs, texts and rejected rows are named like formulas, phones and numbers of many digits.
"""

import csv
import io
import re
import subprocess
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from loyalty import imports
from loyalty.exports import open_download, start_export
from loyalty.imports.rejects import local_path
from loyalty.models import ImportJob, Member, Segment, Site
from messaging.exports import run_export, start_message_export
from tests.factories import make_consent, make_member, make_message, make_site
from tests.soak.people import phone

# Comma, double quotes, UTF-8, and the columns as a person who only presses Enter gets them.
_CSV = "44,34,76,1"
_NUMBER_OR_DAY = re.compile(r"[+-]?[\d.,:T -]+|TRUE")
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
TEXTS = (
    "=1+1", "=HYPERLINK(\"http://example.com\",\"x\")", "+1+cmd", "-2+3", "@SUM(1,2)", "＝1+1", "＋1", "－1", "＠A1",
    " =1+1", "'=1+1", "''=1+1", "'t Hart", "=\"0042\"", "Anne \"Ada\" O'Neil, Jr.", "Zoë", "張",
)  # fmt: skip
# A spreadsheet shows these in its own way, and rejected rows leave them to it.
NUMBERS = ("+17705550101", "-5", "1.5", "0042", "12345678901234567890", "2026-01-02", "TRUE")


class Spreadsheets:
    """Makes each kind of file that people open, and has it opened and saved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[str] = []

    def run(self) -> list[str]:
        """Return what is wrong with our files."""
        site = make_site()
        for number, name in enumerate((*TEXTS, *NUMBERS)):
            member = make_member(site, phone=phone(number), external_id=name, first_name=name, tier=name[:60])
            make_consent(member)
            make_message(member, body=f"{name} is yours, {name}")
        segment = Segment.objects.create(site=site, name="=Everybody", rules={})
        exported = [
            start_export(site, format="SPREADSHEET", segment=segment), start_export(site, kind="MEMBERS"),
            start_message_export(site),
        ]  # fmt: skip
        for job in map(run_export, exported):
            file, name = open_download(job)
            with file:
                for path in self._unpacked(name, file.read()):
                    self._open(path)
        self._mend_rejects()
        return self.problems

    def _unpacked(self, name: str, content: bytes) -> list[Path]:
        if not name.endswith(".zip"):
            path = self.folder / name
            path.write_bytes(content)
            return [path]
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return [Path(archive.extract(inner, self.folder)) for inner in archive.namelist() if inner.endswith(".csv")]

    def _open(self, path: Path) -> Path:
        """Have a file opened and saved again as CSV; note each cell that became a formula or lost its text."""
        opened = self._converted(path, "fods", f"--infilter=CSV:{_CSV}")
        rows = list(ElementTree.parse(opened).iter(f"{_TABLE}table-row"))
        cells = [cell for row in rows for cell in row.iter(f"{_TABLE}table-cell")]
        self.problems += [
            f"{path.name} runs {cell.get(f'{_TABLE}formula')}" for cell in cells if cell.get(f"{_TABLE}formula")
        ]
        shown = {" ".join("".join(cell.itertext()).split()) for cell in cells}
        with path.open(encoding="utf-8-sig", newline="") as file:
            written = {" ".join(cell.split()) for row in csv.reader(file) for cell in row}
        lost = {cell for cell in written - shown if not _NUMBER_OR_DAY.fullmatch(cell)}
        self.problems += [f"{path.name} shows {cell!r} in another way" for cell in sorted(lost)]
        return self._converted(opened, f"csv:Text - txt - csv (StarCalc):{_CSV}")

    def _converted(self, path: Path, to: str, *options: str) -> Path:
        kind = to.partition(":")[0]
        out = self.folder / f"{path.stem}-as-{kind}"
        command = [
            "soffice", "--headless", f"-env:UserInstallation=file://{self.folder}/profile", "--convert-to", to,
            "--outdir", str(out), *options, str(path),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        return out / f"{path.stem}.{kind}"

    def _mend_rejects(self) -> None:
        """Mend rejected rows in the spreadsheet and import what it saves, as if the rows had been right at once."""
        right, wrong = make_site(), make_site()
        _imported(right, [[phone(number), text, f"M{number}"] for number, text in enumerate(TEXTS)])
        rejects = local_path(_imported(wrong, [["12", text, f"M{number}"] for number, text in enumerate(TEXTS)]))
        assert rejects is not None
        with self._open(Path(rejects)).open(newline="") as file:
            _header, *rows = csv.reader(file)
        _imported(wrong, [[phone(number), *row[1:3]] for number, row in enumerate(rows)])
        expected, found = (
            dict(Member.objects.filter(site=site).values_list("external_id", "first_name")) for site in (right, wrong)
        )
        for number, text in enumerate(TEXTS):
            if (name := found.get(f"M{number}")) != expected[f"M{number}"]:
                self.problems.append(f"{text!r} came back as {name!r}")


def _imported(site: Site, rows: list[list[str]]) -> ImportJob:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["phone", "first_name", "external_id"], *rows])
    job = imports.start_import(site, io.BytesIO(text.getvalue().encode()), "members.csv")
    imports.set_mapping(job, imports.propose_mapping(job))
    return imports.run_import(job)
