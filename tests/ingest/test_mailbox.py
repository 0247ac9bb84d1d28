"""Mail: Maildirs, a real IMAP server, one that misbehaves, and what is never said or changed."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drystone.errors import SettingsError, SourceUnavailable
from drystone.ingest import mailbox
from drystone.ingest.mailbox import ImapSource, MaildirSource, _utf7, open_mail
from drystone.records import Failure, Item
from tests.ingest.build import settings
from tests.ingest.stores import SECRET, Dovecot, Proxy, certificate, dovecot
from tests.ingest.test_sources_suite import table
from tests.ingest.wild import known, project


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "PAUSES", (0.01, 0.01))
    monkeypatch.setenv("MAIL_SECRET", SECRET)


def mail(subject: str) -> bytes:
    return f"From: ann@example.com\r\nSubject: {subject}\r\nMessage-ID: <same@example.com>\r\n\r\nText of {subject}.\r\n".encode()


# -- Maildir ---------------------------------------------------------------------------------------------
def maildir(root: Path, messages: dict[str, bytes]) -> Path:
    for part in ("cur", "new", "tmp"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for name, data in messages.items():
        (root / name).write_bytes(data)
    return root


def listed(tmp_path: Path, **options: Any) -> dict[str, Item | Failure]:
    made = open_mail(table("mail", path="mail", **options), settings(tmp_path))
    return {i.id if isinstance(i, Item) else i.document: i for i in made.list()}


def test_folders_flags_and_what_is_no_message(tmp_path: Path) -> None:
    root = maildir(tmp_path / "mail", {"new/1.a": b"1", "cur/2.b:2,S": b"2", "cur/3.c:2,ST": b"3", "tmp/4.d": b"4"})
    maildir(root / ".Sent.2024", {"cur/5.e:2,": b"5"})
    maildir(root / "Projects" / "X", {"cur/6.f:2,": b"6"})
    os.symlink("/etc/passwd", root / "cur" / "7.g:2,S")
    assert list(listed(tmp_path)) == ["INBOX/1.a", "INBOX/2.b", "docs:INBOX/7.g"]
    assert list(listed(tmp_path, folders=["**"])) == [
        "INBOX/1.a", "INBOX/2.b", "docs:INBOX/7.g", "Projects/X/6.f", "Sent/2024/5.e"
    ]  # fmt: skip
    assert list(listed(tmp_path, folders=["Sent/*"])) == ["Sent/2024/5.e"]
    assert list(listed(tmp_path, exclude=["INBOX/7*"], since="2100-01-01")) == []
    with pytest.raises(SourceUnavailable, match="no folder 'Archive'"):
        listed(tmp_path, folders=["INBOX", "Archive"])
    maildir(root / "Sent" / "2024", {})
    with pytest.raises(SourceUnavailable, match="one name"):
        listed(tmp_path)


def test_a_flag_or_a_move_from_new_is_no_change(tmp_path: Path) -> None:
    root = maildir(tmp_path / "mail", {"new/1.a": mail("one")})
    made = open_mail(table("mail", path="mail"), settings(tmp_path))
    before = list(made.list())
    (root / "new/1.a").rename(root / "cur/1.a:2,S")
    assert isinstance(before[0], Item) and made.read(before[0]) == mail("one"), "it is found where it went"
    assert list(made.list()) == before
    (root / "cur/1.a:2,S").unlink()
    with pytest.raises(FileNotFoundError):
        made.read(before[0])


def test_reading_changes_nothing(tmp_path: Path) -> None:
    root = maildir(tmp_path / "mail", {"new/1.a": mail("one")})
    made = open_mail(table("mail", path="mail"), settings(tmp_path))
    for item in made.list():
        assert isinstance(item, Item) and made.read(item) == mail("one")
    assert (root / "new/1.a").exists()


def test_no_maildir_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "mail").mkdir()
    with pytest.raises(SourceUnavailable, match="no folder 'INBOX'"):
        listed(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"path": "mail", "permissions": "source"}, {"path": "mail", "since": "soon"}, {"path": "mail", "since": True},
        {"path": "mail", "folders": "INBOX"}, {"path": "mail", "password": "env:MAIL_SECRET"},
        {"host": "mail.example.com"}, {"host": "mail.example.com", "user": "bo"},
        {"host": "mail.example.com", "user": "bo", "password": SECRET},
        {"host": "mail.example.com", "user": "bo", "password": "env:MAIL_SECRET", "token": "env:MAIL_SECRET"},
        {"host": "mail.example.com", "user": "bo", "password": "env:MAIL_SECRET", "tls": False},
        {"host": "localhost.example.com", "user": "bo", "password": "env:MAIL_SECRET", "tls": False},
        {"host": "mail.example.com", "user": "bo", "password": "env:MAIL_SECRET", "tls": "maybe"},
        {"host": "mail.example.com", "user": "bo", "password": "env:MAIL_SECRET", "ca": "nowhere.pem"},
        {"host": "mail.example.com", "user": "bo", "password": "env:MAIL_SECRET", "port": "993"},
    ],
)  # fmt: skip
def test_wrong_tables_are_said_without_their_values(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        open_mail(table("mail", **options), settings(tmp_path))
    assert SECRET not in str(caught.value)


def test_a_host_decides_which_source_it_is(tmp_path: Path) -> None:
    table_ = table("mail", host="127.0.0.1", user="bo", password="env:MAIL_SECRET", tls=False)
    assert isinstance(open_mail(table_, settings(tmp_path)), ImapSource)
    assert isinstance(open_mail(table("mail", path="mail"), settings(tmp_path)), MaildirSource)


@pytest.mark.parametrize(("written", "read"), [
    (b"Entw&APw-rfe", "Entwürfe"), (b"&ZeVnLIqe-", "日本語"), (b"A &- B", "A & B"), ("ü".encode(), "ü"), (b"&x", "&x"),
])  # fmt: skip
def test_folder_names(written: bytes, read: str) -> None:
    assert _utf7(written) == read


# -- a real server ---------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with dovecot() as made:
        yield made


@pytest.fixture
def clean(server: Dovecot) -> Iterator[Dovecot]:
    yield server
    client = server.client()
    if client.select("INBOX")[1] != [b"0"]:
        client.store("1:*", "+FLAGS", "\\Deleted")
        client.expunge()
    client.logout()


def imap(tmp_path: Path, port: int, **options: Any) -> ImapSource:
    made = open_mail(
        table("mail", **{"host": "127.0.0.1", "port": port, "user": "bo", "password": "env:MAIL_SECRET", "tls": False,
                         **options}),
        settings(tmp_path),
    )  # fmt: skip
    assert isinstance(made, ImapSource)
    return made


def append(server: Dovecot, *subjects: str, folder: str = "INBOX", flags: str = "", when: str = "") -> None:
    client = server.client()
    for subject in subjects:
        assert client.append(folder, flags, when, mail(subject))[0] == "OK"
    client.logout()


@pytest.mark.engines
def test_nothing_becomes_seen_and_deleted_mail_does_not_count(tmp_path: Path, clean: Dovecot) -> None:
    append(clean, "one", "two")
    append(clean, "gone", flags="\\Deleted")
    append(clean, "old", when='"01-Feb-2020 10:00:00 +0000"')
    made = imap(tmp_path, clean.plain)
    found = list(made.list())
    assert [made.read(item) for item in found] == [mail("one"), mail("two"), mail("old")]
    assert [item.media_type for item in found] == ["message/rfc822"] * 3
    client = clean.client()
    client.select("INBOX", readonly=True)
    flags = b" ".join(line for line in client.fetch("1:*", "(FLAGS)")[1] if isinstance(line, bytes))
    assert b"\\Seen" not in flags and b"\\Recent" in flags
    client.logout()
    assert len(list(imap(tmp_path, clean.plain, since="2021-01-01").list())) == 2


@pytest.mark.engines
def test_three_ways_of_tls(tmp_path: Path, clean: Dovecot) -> None:
    append(clean, "one")
    (tmp_path / "other").mkdir()
    other = certificate(tmp_path / "other")
    for port, tls in ((clean.tls, True), (clean.plain, "starttls")):
        assert len(list(imap(tmp_path, port, tls=tls, ca=str(clean.ca)).list())) == 1
        for ca in ({}, {"ca": str(other)}):
            with pytest.raises(SourceUnavailable, match="certificate does not hold"):
                list(imap(tmp_path, port, tls=tls, **ca).list())


@pytest.mark.engines
def test_folders_of_a_server(tmp_path: Path, clean: Dovecot) -> None:
    client = clean.client()
    for folder in ('"Entw&APw-rfe"', '"Projects.A B"', '"Quote\\"s"'):
        client.create(folder)
    client.logout()
    append(clean, "x", folder='"Entw&APw-rfe"')
    append(clean, "y", folder='"Projects.A B"')
    append(clean, "z", folder='"Quote\\"s"')
    made = imap(tmp_path, clean.plain, folders=["**"])
    found = {item.id.rpartition("/")[0]: made.read(item) for item in made.list()}
    assert found == {"Entwürfe": mail("x"), "Projects/A B": mail("y"), 'Quote"s': mail("z")}
    with pytest.raises(SourceUnavailable, match="no folder 'Nowhere'"):
        list(imap(tmp_path, clean.plain, folders=["Nowhere"]).list())


@pytest.mark.engines
def test_a_connection_that_breaks_is_made_again(tmp_path: Path, clean: Dovecot) -> None:
    append(clean, "one", "two")
    proxy = Proxy(clean.plain)
    made = imap(tmp_path, proxy.port)
    found = list(made.list())
    proxy.hang_up()
    assert made.read(found[1]) == mail("two")
    proxy.hang_up()
    assert list(made.list()) == found
    with proxy.outage():
        with pytest.raises(SourceUnavailable):
            list(made.list())
        with pytest.raises(OSError):
            made.read(found[0])
    assert list(made.list()) == found
    proxy.close()


@pytest.mark.engines
def test_a_wrong_password_is_said_and_not_shown(
    tmp_path: Path, clean: Dovecot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for secret in ("wrong-canary", "wrong-canary-ü"):
        monkeypatch.setenv("MAIL_SECRET", secret)
        made = imap(tmp_path, clean.plain)
        with pytest.raises(SourceUnavailable, match="refused the user or the password") as caught:
            list(made.list())
        assert "canary" not in "\n".join((str(caught.value), repr(caught.value), repr(made), caplog.text))


@pytest.mark.engines
def test_an_ingestion_of_mail_loads_each_message_once(tmp_path: Path, clean: Dovecot) -> None:
    append(clean, *(f"number {n}" for n in range(3)))
    proxy = Proxy(clean.plain)
    lines = f'type = "mail"\nhost = "127.0.0.1"\nport = {proxy.port}\ntls = false\nuser = "bo"\npassword = "env:MAIL_SECRET"'
    lines += '\nparsers = {"**" = "text"}'
    with project(tmp_path / "p", lines) as kb:
        report = kb.ingest(actor="olga")
        assert (report.seen, report.added) == (3, 3)
        read = []
        real = ImapSource.read
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ImapSource, "read", lambda self, item: (read.append(item.id), real(self, item))[1])
            append(clean, "number 4")
            assert kb.ingest(actor="olga").added == 1
        assert len(read) == 1
        with proxy.outage(), pytest.raises(SourceUnavailable):
            kb.ingest(actor="olga")
        assert len(known(kb)) == 4
    state = b"".join(p.read_bytes() for p in (tmp_path / "p" / ".drystone").rglob("*") if p.is_file())
    assert SECRET.encode() not in state
    proxy.close()


# -- a server that misbehaves --------------------------------------------------------------------------------
class Script:
    """Speaks IMAP by a table: the first word of a command that fits to the lines that answer it (``%`` is its tag)."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers, self.heard = answers, list[str]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, client.makefile("rwb") as file:
                try:
                    file.write(b"* OK ready\r\n")
                    file.flush()
                    while line := file.readline():
                        tag, _, command = line.decode().strip().partition(" ")
                        self.heard.append(command)
                        known = next((a for word, a in self.answers.items() if command.startswith(word)), None)
                        said = f"{tag} OK done\r\n" if known is None else known.replace("%", tag)
                        file.write(said.encode())
                        file.flush()
                        if not said:
                            break
                except OSError:
                    continue

    def close(self) -> None:
        self._listener.close()


GOOD = {
    "CAPABILITY": "* CAPABILITY IMAP4rev1\r\n% OK done\r\n",
    "LIST": '* LIST () "/" INBOX\r\n% OK done\r\n',
    "EXAMINE": "* 2 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n% OK [READ-ONLY] done\r\n",
    "FETCH": "* 1 FETCH (UID 4 RFC822.SIZE 10 FLAGS ())\r\n* 2 FETCH (UID 6 RFC822.SIZE 10 FLAGS ())\r\n% OK done\r\n",
    "UID FETCH": "* 1 FETCH (UID 4 BODY[] {2}\r\nab)\r\n% OK done\r\n",
}


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    made: list[Script] = []

    def build(**answers: str) -> Script:
        made.append(Script({**GOOD, **answers}))
        return made[-1]

    yield build
    for each in made:
        each.close()


def test_a_plain_server(tmp_path: Path, script: Callable[..., Script]) -> None:
    speaks = script()
    made = imap(tmp_path, speaks.port)
    found = list(made.list())
    assert [(i.id, i.fingerprint) for i in found] == [("INBOX/4", "7:4:10"), ("INBOX/6", "7:6:10")]
    assert made.read(found[0]) == b"ab"
    with pytest.raises(OSError, match="gone"):
        made.read(found[1])
    assert not [c for c in speaks.heard if c.startswith(("SELECT", "STORE", "EXPUNGE", "CLOSE"))]


def test_a_folder_that_was_numbered_anew_is_listed_anew(tmp_path: Path, script: Callable[..., Script]) -> None:
    speaks = script()
    made = imap(tmp_path, speaks.port)
    found = list(made.list())
    speaks.answers["EXAMINE"] = GOOD["EXAMINE"].replace("7", "8")
    assert [i.fingerprint for i in made.list()] == ["8:4:10", "8:6:10"]
    with pytest.raises(OSError, match="numbered anew"):
        made.read(found[0])


@pytest.mark.parametrize(
    "answers",
    [
        {"FETCH": "* 1 FETCH (UID 4 RFC822.SIZE 10 FLAGS ())\r\n% OK done\r\n"},
        {"FETCH": "* 1 FETCH (UID 4 RFC822.SIZE 10 FLAGS ())\r\n"[:-9]},
        {"FETCH": ""},
        {"FETCH": "% NO canary\r\n"},
        {"EXAMINE": "% NO canary\r\n"},
        {"EXAMINE": "* 2 EXISTS\r\n% OK done\r\n"},
        {"LIST": "% BAD canary\r\n"},
        {"LIST": "% OK done\r\n"},
        {"LIST": '* LIST (\\Noselect) "/" INBOX\r\n% OK done\r\n'},
        {"LOGIN": f"% NO no user with {SECRET}\r\n"},
        {"CAPABILITY": "* BYE canary\r\n"},
        {"CAPABILITY": "garbage canary\r\n" * 3},
    ],
)
def test_a_listing_that_is_not_whole_is_an_outage(
    tmp_path: Path, script: Callable[..., Script], monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]
) -> None:
    monkeypatch.setattr(mailbox, "TIMEOUT_S", 0.2)
    made = imap(tmp_path, script(**answers).port)
    with pytest.raises(SourceUnavailable) as caught:
        list(made.list())
    assert SECRET not in str(caught.value) and "canary" not in str(caught.value)
