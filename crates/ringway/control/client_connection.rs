//! One client's connection: bytes in, lines out of them, answers back.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::protocol;

/// Longest line in bytes.
const LINE_MAX: usize = 1 << 20;

/// While more bytes than this wait for a client, its requests are left unread.
const UNREAD_MAX: usize = 1 << 20;

/// How long answers may wait without any being read.
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests carried out before others have their turn.
const LINES_PER_TURN: usize = 16;

/// Bytes taken from the socket at a time.
const CHUNK: usize = 16 << 10;

/// A client.
#[derive(Debug)]
pub(crate) struct ClientConnection {
    stream: UnixStream,
    input: Vec<u8>,
    /// Bytes of `input` known to hold no end of line.
    searched: usize,
    output: Vec<u8>,
    /// Bytes of `output` that were sent.
    sent: usize,
    /// When something was last sent, or there was nothing to send.
    progress: Instant,
    /// No more input: the client has closed its end, or sent a line that is too long.
    has_ended: bool,
    is_broken: bool,
}

impl ClientConnection {
    /// A connection on a non-blocking socket.
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            searched: 0,
            output: Vec::new(),
            sent: 0,
            progress: Instant::now(),
            has_ended: false,
            is_broken: false,
        }
    }

    /// Sends the line that says who is here.
    pub(crate) fn greet(&mut self) {
        self.queue(&protocol::greeting());
        self.send();
    }

    pub(crate) const fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// The connection, to be used otherwise.
    pub(crate) fn into_stream(self) -> UnixStream {
        self.stream
    }

    /// Whether input and room for output are waited for; `None` if the connection is over.
    pub(crate) fn interest(&self) -> Option<(bool, bool)> {
        let waits = self.unsent() > 0;
        if self.is_broken || (self.has_ended && !waits && !self.has_line()) {
            return None;
        }
        // A whole line that was left for later needs another turn, which room for output gives.
        let is_behind = self.has_line();
        let reads = !self.has_ended && !is_behind && self.unsent() <= UNREAD_MAX;
        Some((reads, waits || is_behind))
    }

    /// Says whether answers have waited too long.
    pub(crate) fn is_stuck(&self, now: Instant) -> bool {
        self.unsent() > 0 && now.saturating_duration_since(self.progress) > PATIENCE
    }

    /// Sends what waits, reads what came and has each whole line answered.
    pub(crate) fn serve(&mut self, mut answer: impl FnMut(&[u8]) -> Option<String>) {
        self.send();
        if !self.has_line() && self.unsent() <= UNREAD_MAX {
            self.receive();
        }
        for _ in 0..LINES_PER_TURN {
            if self.is_broken || self.unsent() > UNREAD_MAX {
                break;
            }
            let Some(line) = self.next_line() else { break };
            if let Some(answer) = answer(&line) {
                self.queue(&answer);
                self.send();
            }
        }
        if !self.has_line() && self.input.len() > LINE_MAX {
            self.queue(&protocol::line_too_long(LINE_MAX));
            self.input = Vec::new();
            self.searched = 0;
            self.has_ended = true;
            self.send();
        }
    }

    fn receive(&mut self) {
        let mut chunk = [0; CHUNK];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.has_ended = true;
                    return;
                }
                Ok(count) => {
                    self.input.extend_from_slice(&chunk[..count]);
                    // A line is carried out before more is read, so that what waits stays short.
                    if count < CHUNK || self.has_line() || self.input.len() > LINE_MAX {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.is_broken = error.kind() != io::ErrorKind::WouldBlock;
                    return;
                }
            }
        }
    }

    fn has_line(&self) -> bool {
        self.input[self.searched..].contains(&b'\n')
    }

    fn next_line(&mut self) -> Option<Vec<u8>> {
        let end = self.input[self.searched..].iter().position(|&byte| byte == b'\n');
        let Some(end) = end else {
            self.searched = self.input.len();
            return None;
        };
        let rest = self.input.split_off(self.searched + end + 1);
        let mut line = std::mem::replace(&mut self.input, rest);
        self.searched = 0;
        line.pop();
        Some(line)
    }

    fn queue(&mut self, line: &str) {
        if self.unsent() == 0 {
            self.progress = Instant::now();
        }
        self.output.extend_from_slice(line.as_bytes());
        self.output.push(b'\n');
    }

    fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    fn send(&mut self) {
        while self.unsent() > 0 && !self.is_broken {
            // Rust's runtime ignores SIGPIPE, so a client that is gone is an error here.
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => self.is_broken = true,
                Ok(count) => {
                    self.sent += count;
                    self.progress = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.is_broken = error.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        if self.unsent() == 0 {
            self.output = Vec::new();
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected() -> (ClientConnection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        (ClientConnection::new(ours), theirs)
    }

    fn echo(line: &[u8]) -> Option<String> {
        Some(String::from_utf8_lossy(line).to_uppercase())
    }

    fn read_all(client: &mut UnixStream) -> String {
        let mut text = Vec::new();
        // Ends when nothing is left, as an error; what came is kept.
        let _ = client.read_to_end(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn half_a_line_is_kept_until_the_rest_comes() {
        let (mut connection, mut client) = connected();

        client.write_all(b"on").unwrap();
        connection.serve(echo);
        client.write_all(b"e\ntwo\nthr").unwrap();
        connection.serve(echo);

        assert_eq!(read_all(&mut client), "ONE\nTWO\n");
        assert_eq!(connection.interest(), Some((true, false)));
    }

    #[test]
    fn line_without_end_is_refused_and_ends_the_connection() {
        let (mut connection, mut client) = connected();
        let chunk = [b'x'; CHUNK];

        while connection.interest().is_some() {
            let _ = client.write(&chunk);
            connection.serve(echo);
        }

        assert!(read_all(&mut client).contains("at most 1048576 bytes"));
        connection.serve(echo);
        assert_eq!(connection.interest(), None);
    }

    #[test]
    fn client_that_does_not_read_is_not_read_from() {
        let (mut connection, mut client) = connected();
        let answer = "y".repeat(UNREAD_MAX);

        client.write_all(b"a\nb\nc\nd\ne\nf\n").unwrap();
        (0..10).for_each(|_| connection.serve(|_| Some(answer.clone())));

        assert!(connection.unsent() <= 2 * UNREAD_MAX + 2);
        assert_eq!(connection.interest(), Some((false, true)));
        assert!(connection.is_stuck(Instant::now() + PATIENCE + Duration::from_secs(1)));
    }

    #[test]
    fn lines_sent_before_hanging_up_are_answered() {
        let (mut connection, mut client) = connected();

        client.write_all(b"a\nb\n").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        (0..3).for_each(|_| connection.serve(echo));

        assert_eq!(read_all(&mut client), "A\nB\n");
        assert_eq!(connection.interest(), None);
    }
}
