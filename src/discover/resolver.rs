//! Questions to DNS servers: every server at once, each type apart, nobody's "no" final for the others.
//!
//! Each question has a connected socket of its own, so the kernel checks who answers, and a closed
//! port says so at once. A socket stays open after a denial: what denied may have been a forgery.
//! Servers are configured, or guessed: a home router often knows a name that the configured server,
//! far away, does not. What a guess says is as welcome, but nothing waits for it.

use std::net::SocketAddr;
use std::time::Duration;

use super::Random;
use crate::elapsed::{Elapsed, earliest};
use crate::interface::{Channel, Effects, Failure, Output};
use crate::model::Origin;
use crate::wire::dns::{
    Denial, Name, RecordType, Reply, compose_question, parse_datagram, parse_reply,
};

/// When a question that nobody answered is sent again, counted from the first time. A server on the
/// LAN that knows the name answers before the first of these.
const RESEND_AFTER: [Duration; 4] = [
    Duration::from_millis(80),
    Duration::from_millis(300),
    Duration::from_millis(900),
    Duration::from_millis(1800),
];
/// When a server that has not answered counts as having nothing to say: when its last resend has had
/// almost a second.
const SERVER_TIMEOUT: Duration = Duration::from_millis(2750);
/// The least time for a server that became known when others had long been asked.
const LATE_SERVER_TIMEOUT: Duration = Duration::from_secs(1);
/// Questions of one method: eight servers, two types, and as many again after network changes.
const QUESTIONS_MAX: usize = 32;
/// Bytes of an answer over TCP; sixteen addresses and as many aliases need a quarter of it.
const TCP_ANSWER_MAX: usize = 16 * 1024;

/// Everything that DNS servers are asked.
#[derive(Debug)]
pub struct Resolver {
    /// For query ids.
    random: Random,
    /// Everything asked so far.
    questions: Vec<Question>,
    /// When the first server was asked, since the network came up.
    begun_at: Option<Elapsed>,
    /// The number of the next channel.
    next_channel: u32,
}

/// What is asked, by whom, and of whom.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The method that wants to know.
    pub asker: Origin,
    /// Who is asked.
    pub server: SocketAddr,
    /// Whether nobody configured it.
    pub is_guess: bool,
    /// The name.
    pub name: Name,
    /// The type of record.
    pub kind: RecordType,
}

/// One server, one name, one type.
#[derive(Debug)]
struct Question {
    /// What is asked.
    subject: Subject,
    /// The id that an answer must repeat.
    id: u16,
    /// The open UDP socket or TCP stream; `None` after it failed.
    channel: Option<u32>,
    /// When it was first sent.
    asked_at: Elapsed,
    /// When its server's silence becomes an answer.
    silent_at: Elapsed,
    /// How often it was sent again.
    resent: usize,
    /// What is known of the answer.
    state: State,
    /// Over TCP: what has come of the answer.
    stream: Option<Vec<u8>>,
}

/// How far a question has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing heard.
    Waiting,
    /// The server cannot be asked yet: nobody listens, no route, or a forwarder on this host that has
    /// nobody to ask. It may be about to start.
    Unreachable,
    /// The server knows nothing, or does not do its work.
    Denied,
    /// It has given what was asked for.
    Answered,
}

impl Resolver {
    /// Asks nobody yet.
    #[must_use]
    pub const fn new(random: Random) -> Self {
        Self { random, questions: Vec::new(), begun_at: None, next_channel: 0 }
    }

    /// Asks what was not asked before; anew where the server could not be reached. True where it is new.
    pub fn ask(&mut self, now: Elapsed, subject: &Subject, effects: &mut Effects) -> bool {
        let (mut is_known, mut count) = (false, 0);
        for question in self.questions.iter_mut().filter(|asked| asked.is_of(subject.asker)) {
            count += 1;
            if !question.is_about(subject) {
                continue;
            }
            is_known = true;
            if question.subject.is_guess && !subject.is_guess {
                // It is configured now: what it says of the name is so for Nix, too.
                question.subject.is_guess = false;
                question.state = State::Unreachable;
                if let Some(channel) = question.channel.take() {
                    effects.output(Output::Close(Channel::Dns(channel)));
                }
            }
        }
        let is_new = !is_known && count < QUESTIONS_MAX;
        if is_new {
            self.questions.push(Question::new(subject.clone(), now));
        }
        // A forwarder that has nobody to ask is asked again in its own time.
        self.begin(now, effects, &|question| {
            question.is_about(subject)
                && question.state == State::Unreachable
                && question.channel.is_none()
        });
        is_new
    }

    /// The network has come up: what was asked before it did reached nobody, or a forwarder on this
    /// host that had nobody to ask.
    pub fn begin_anew(&mut self, now: Elapsed, effects: &mut Effects) {
        self.begun_at = Some(now);
        self.begin(now, effects, &|question| question.state != State::Answered);
    }

    /// The network has changed: a server that had nothing to say may have now.
    pub fn begin_again(&mut self, now: Elapsed, effects: &mut Effects) {
        self.begin(now, effects, &|question| {
            matches!(question.state, State::Denied | State::Unreachable)
        });
    }

    /// Asks the questions that are due as if for the first time.
    fn begin(&mut self, now: Elapsed, effects: &mut Effects, is_due: &dyn Fn(&Question) -> bool) {
        let begun_at = *self.begun_at.get_or_insert(now);
        for index in 0..self.questions.len() {
            let Some(question) = self.questions.get_mut(index) else { return };
            if is_due(question) {
                if let Some(channel) = question.channel {
                    effects.output(Output::Close(Channel::Dns(channel)));
                }
                question.asked_at = now;
                question.silent_at = (begun_at + SERVER_TIMEOUT).max(now + LATE_SERVER_TIMEOUT);
                question.resent = 0;
                question.state = State::Waiting;
                question.stream = None;
                self.open(index, effects);
            }
        }
    }

    /// Opens a socket for a question and sends it.
    fn open(&mut self, index: usize, effects: &mut Effects) {
        let Some(question) = self.questions.get_mut(index) else { return };
        let channel = self.next_channel;
        self.next_channel += 1;
        question.channel = Some(channel);
        question.id = self.random.next_u16();
        let channel = Channel::Dns(channel);
        let query = question.query();
        let remote = question.subject.server;
        effects.output(if question.stream.is_none() {
            Output::OpenDatagram { channel, remote, datagram: query }
        } else {
            // RFC 1035 §4.2.2: over TCP a length of two bytes comes first.
            #[expect(clippy::cast_possible_truncation, reason = "a name and 16 bytes")]
            let mut request = (query.len() as u16).to_be_bytes().to_vec();
            request.extend(query);
            Output::OpenStream { channel, remote, request }
        });
    }

    /// The question that owns `channel`.
    fn position(&self, channel: u32) -> Option<usize> {
        self.questions.iter().position(|question| question.channel == Some(channel))
    }

    /// Takes a datagram, or a piece of an answer over TCP: what the server says, once it has said it.
    pub fn handle_received(
        &mut self,
        channel: u32,
        bytes: &[u8],
        effects: &mut Effects,
    ) -> Option<(&Subject, Reply)> {
        let index = self.position(channel)?;
        let question = self.questions.get_mut(index)?;
        let Question { id, subject: Subject { name, kind, .. }, stream, .. } = question;
        let parsed = match stream {
            None => parse_datagram(bytes, *id, name, *kind),
            Some(received) => {
                received.extend_from_slice(bytes);
                match split_tcp_answer(received) {
                    None if !bytes.is_empty() && received.len() < TCP_ANSWER_MAX => return None,
                    None => Ok(Reply::Denied(Denial::Failed)),
                    // A stream that carries nonsense will not carry sense after it.
                    Some(answer) => Ok(parse_reply(answer, *id, name, *kind)
                        .unwrap_or(Reply::Denied(Denial::Failed))),
                }
            }
        };
        // Not an answer to our question: keep listening for one that is.
        let reply = parsed.ok()?;
        let over_tcp = question.stream.is_some();
        if over_tcp || reply == Reply::Truncated {
            question.channel = None;
            effects.output(Output::Close(Channel::Dns(channel)));
        }
        if reply == Reply::Truncated && !over_tcp {
            question.stream = Some(Vec::new());
            self.open(index, effects);
            return None;
        }
        question.state = if !matches!(reply, Reply::Denied(_) | Reply::Truncated) {
            State::Answered
        } else if question.subject.server.ip().is_loopback() {
            // A forwarder on this host may just not know yet whom to ask.
            State::Unreachable
        } else {
            State::Denied
        };
        self.questions.get(index).map(|question| (&question.subject, reply))
    }

    /// Takes the failure of a socket: what was asked, if that was not answered.
    pub fn handle_failed(&mut self, channel: u32, failure: Failure) -> Option<&Subject> {
        let index = self.position(channel)?;
        let question = self.questions.get_mut(index)?;
        question.channel = None;
        if question.state != State::Waiting {
            return None;
        }
        let over_tcp = question.stream.take().is_some();
        let gone = over_tcp || failure == Failure::Broken;
        question.state = if gone { State::Denied } else { State::Unreachable };
        Some(&question.subject)
    }

    /// Sends again what is due.
    pub fn advance(&mut self, now: Elapsed, effects: &mut Effects) {
        for index in 0..self.questions.len() {
            let Some(question) = self.questions.get_mut(index) else { return };
            if question.resend_at().is_none_or(|resend_at| now < resend_at) {
                continue;
            }
            // After a stall several are due; one is enough.
            while question.resend_at().is_some_and(|resend_at| resend_at <= now) {
                question.resent += 1;
            }
            match question.channel {
                None => self.open(index, effects),
                // TCP sends again by itself.
                Some(_) if question.stream.is_some() => {}
                Some(channel) => {
                    effects.output(Output::Send(Channel::Dns(channel), question.query()));
                }
            }
        }
    }

    /// When `advance` is next of use.
    #[must_use]
    pub fn next_at(&self, now: Elapsed) -> Option<Elapsed> {
        self.questions.iter().fold(None, |next, question| {
            earliest(next, earliest(question.resend_at(), question.silent_at(now)))
        })
    }

    /// Whether every server that `asker` has asked has answered or been silent for too long.
    #[must_use]
    pub fn is_finished(&self, now: Elapsed, asker: Origin) -> bool {
        let mut of_asker = self.questions.iter().filter(|question| question.is_of(asker));
        of_asker.all(|question| question.silent_at(now).is_none())
    }
}

impl Question {
    /// One that is not sent yet.
    const fn new(subject: Subject, now: Elapsed) -> Self {
        Self {
            subject,
            id: 0,
            channel: None,
            asked_at: now,
            silent_at: now,
            resent: 0,
            state: State::Unreachable,
            stream: None,
        }
    }

    /// Whether that method asks it.
    fn is_of(&self, asker: Origin) -> bool {
        self.subject.asker == asker
    }

    /// Whether it is the same question.
    fn is_about(&self, other: &Subject) -> bool {
        let Subject { asker, server, name, kind, .. } = &self.subject;
        (*asker, *kind) == (other.asker, other.kind)
            && *server == other.server
            && *name == other.name
    }

    /// The message.
    fn query(&self) -> Vec<u8> {
        compose_question(self.id, true, &self.subject.name, &[self.subject.kind])
    }

    /// When it is to be sent again, if ever.
    fn resend_at(&self) -> Option<Elapsed> {
        let after = RESEND_AFTER.get(self.resent)?;
        let is_open = matches!(self.state, State::Waiting | State::Unreachable);
        (is_open && !self.subject.is_guess).then(|| self.asked_at + *after)
    }

    /// When its server's silence becomes an answer, if somebody waits for that.
    fn silent_at(&self, now: Elapsed) -> Option<Elapsed> {
        let is_awaited =
            self.state == State::Waiting && !self.subject.is_guess && now < self.silent_at;
        is_awaited.then_some(self.silent_at)
    }
}

/// The answer in a TCP stream, once it is whole.
fn split_tcp_answer(received: &[u8]) -> Option<&[u8]> {
    let (length, rest) = received.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}
