"""The smallest client of PostgreSQL that the measurements need: SCRAM, simple queries, COPY in.

It exists because psql keeps a whole result in memory, and because 1,000 idle clients should not be
1,000 processes. Standard library only.
"""
import base64
import hashlib
import hmac
import os
import socket
import struct


class PgError(Exception):
    """An ErrorResponse, with its SQLSTATE."""

    def __init__(self, sqlstate, message, severity):
        super().__init__(f"{severity} {sqlstate}: {message}")
        self.sqlstate = sqlstate


class Lost(Exception):
    """The connection ended without an ErrorResponse that explains it."""


class Client:
    def __init__(self, address, user, password, database, timeout=30.0):
        try:
            self.socket = socket.create_connection(address, timeout=timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise Lost(str(error)) from error
        self.buffer = b""
        try:
            self._log_in(user, password, database)
        except BaseException:
            self.close()
            raise

    def close(self):
        try:
            self.socket.close()
        except OSError:
            pass

    # --- messages

    def send(self, tag, body=b""):
        try:
            self.socket.sendall(tag + struct.pack("!I", len(body) + 4) + body)
        except OSError as error:
            raise Lost(str(error)) from error

    def read(self):
        """The next message: its tag and its body."""
        head = self._take(5)
        return head[:1], self._take(struct.unpack("!I", head[1:])[0] - 4)

    def _take(self, count):
        while len(self.buffer) < count:
            try:
                more = self.socket.recv(65536)
            except OSError as error:
                raise Lost(str(error)) from error
            if not more:
                raise Lost("the connection was closed")
            self.buffer += more
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    # --- conversations

    def query(self, text):
        """Runs a text and returns its rows as lists of str or None."""
        self.send(b"Q", text.encode() + b"\0")
        rows, error = [], None
        while True:
            try:
                tag, body = self.read()
            except Lost:
                # A FATAL comes before the end of the connection.
                raise error if error else Lost("the connection was closed") from None
            if tag == b"D":
                rows.append(_columns(body))
            elif tag == b"E":
                error = _error(body)
            elif tag == b"Z":
                if error:
                    raise error
                return rows

    def discard(self, text, watch):
        """Runs a text, throws its result away, and returns how many bytes came. `watch` is called
        now and then. The rows must not look like a ReadyForQuery."""
        self.send(b"Q", text.encode() + b"\0")
        space, total, next_watch, tail = bytearray(1 << 18), 0, 0, b""
        while True:
            count = self.socket.recv_into(space)
            if count == 0:
                raise Lost("the connection was closed")
            total += count
            tail = (tail + bytes(space[max(0, count - 6):count]))[-6:]
            if total >= next_watch:
                watch()
                next_watch = total + (32 << 20)
            if tail == b"Z\0\0\0\x05I":
                return total

    def copy_in(self, text, chunk, times, watch):
        """Sends `chunk` as copy data `times` times and returns how many bytes were sent."""
        self.send(b"Q", text.encode() + b"\0")
        tag, body = self.read()
        if tag != b"G":
            raise _error(body)
        frame = b"d" + struct.pack("!I", len(chunk) + 4) + chunk
        for number in range(times):
            self.socket.sendall(frame)
            if number % 256 == 0:
                watch()
        self.send(b"c")
        error = None
        while True:
            tag, body = self.read()
            if tag == b"E":
                error = _error(body)
            if tag == b"Z":
                if error:
                    raise error
                return times * len(chunk)

    def _log_in(self, user, password, database):
        parameters = b"".join(
            part.encode() + b"\0" for part in ("user", user, "database", database))
        body = struct.pack("!I", 3 << 16) + parameters + b"\0"
        self.socket.sendall(struct.pack("!I", len(body) + 4) + body)
        scram = None
        while True:
            tag, body = self.read()
            if tag == b"E":
                raise _error(body)
            if tag == b"Z":
                return
            if tag != b"R":
                continue
            kind = struct.unpack("!I", body[:4])[0]
            if kind == 10:
                scram = Scram(password)
                first = scram.first()
                self.send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first)
            elif kind == 11:
                self.send(b"p", scram.final(body[4:]))
            elif kind not in (0, 12):
                raise Lost(f"authentication method {kind} is not known here")


class Scram:
    """RFC 7677, without a check of the server's signature."""

    # Hashing a password is slow by design; a thousand clients share one.
    salted = {}

    def __init__(self, password):
        self.password = password.encode()
        self.bare = b"n=,r=" + base64.b64encode(os.urandom(18))

    def first(self):
        return b"n,," + self.bare

    def final(self, server_first):
        fields = dict(part.split(b"=", 1) for part in server_first.split(b","))
        salt, count = base64.b64decode(fields[b"s"]), int(fields[b"i"])
        key = (self.password, salt, count)
        if key not in Scram.salted:
            Scram.salted[key] = hashlib.pbkdf2_hmac("sha256", self.password, salt, count)
        client_key = hmac.digest(Scram.salted[key], b"Client Key", "sha256")
        bare = b"c=biws,r=" + fields[b"r"]
        message = b",".join((self.bare, server_first, bare))
        signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        return bare + b",p=" + base64.b64encode(proof)


def _error(body):
    fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
    return PgError(fields.get(b"C", "?????"), fields.get(b"M", ""), fields.get(b"S", "ERROR"))


def _columns(body):
    columns, at = [], 2
    for _ in range(struct.unpack("!H", body[:2])[0]):
        length = struct.unpack("!i", body[at:at + 4])[0]
        at += 4
        if length < 0:
            columns.append(None)
            continue
        columns.append(body[at:at + length].decode())
        at += length
    return columns
