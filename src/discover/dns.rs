//! Unicast DNS: every server at once, A and AAAA apart, nobody's "no" final for the others.
//!
//! Each question has a connected socket of its own, so the kernel checks who answers, and a closed
//! port says so at once. A socket stays open after a denial: what denied may have been a forgery.

use std::net::SocketAddr;
use std::time::Duration;

use super::Random;
use crate::model::{Channel, Effects, Elapsed, Failure, Lead, Note, Origin, Output, earliest};
use crate::wire::dns::{Name, RecordType, Reply, compose_question, parse_reply};

/// When a question that nobody answered is sent again, counted from the first time.
const RESEND_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// When a server that has not answered counts as having nothing to say: after its second resend
/// has had a second, like the resolvers of musl and glibc with `attempts:3`.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(4);
/// Questions open at a time: eight servers, two types, and as many again after network changes.
const QUESTIONS_MAX: usize = 32;
/// Bytes of an answer over TCP; sixteen addresses and as many aliases need a quarter of it.
const TCP_ANSWER_MAX: usize = 16 * 1024;

/// The state of unicast DNS.
#[derive(Debug)]
pub struct Dns {
    /// The name asked for.
    name: Name,
    /// The port that a lead gets.
    port: u16,
    /// For query ids.
    random: Random,
    /// Everything asked so far.
    questions: Vec<Question>,
    /// The number of the next channel.
    next_channel: u32,
}

/// One server, one type.
#[derive(Debug)]
struct Question {
    /// Who is asked.
    server: SocketAddr,
    /// What for.
    kind: RecordType,
    /// The id that an answer must repeat.
    id: u16,
    /// The open UDP socket or TCP stream; `None` after it failed.
    channel: Option<u32>,
    /// When it was first sent.
    asked_at: Elapsed,
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
    /// The server cannot be asked: nobody listens or no route. It may be about to start.
    Unreachable,
    /// A valid answer, positive or negative.
    Answered,
}

impl Dns {
    /// Asks nobody yet.
    #[must_use]
    pub fn new(name: Name, port: u16, random: Random) -> Self {
        Self { name, port, random, questions: Vec::new(), next_channel: 0 }
    }

    /// Asks the servers that were not asked before, and anew those that could not be reached.
    pub fn ask(&mut self, now: Elapsed, servers: &[SocketAddr], effects: &mut Effects) {
        for server in servers {
            let known = self.questions.iter().any(|question| question.server == *server);
            if known {
                self.ask_again_if_unreachable(now, *server, effects);
            } else if self.questions.len() + 2 <= QUESTIONS_MAX {
                effects.note(Note::AskedServer(*server));
                for kind in [RecordType::A, RecordType::Aaaa] {
                    let id = self.random.next_u16();
                    self.questions.push(Question {
                        server: *server,
                        kind,
                        id,
                        channel: None,
                        asked_at: now,
                        resent: 0,
                        state: State::Waiting,
                        stream: None,
                    });
                    let added = self.questions.len() - 1;
                    self.open(added, effects);
                }
            }
        }
    }

    /// The network has changed: a server that was out of reach may not be so any more.
    fn ask_again_if_unreachable(
        &mut self,
        now: Elapsed,
        server: SocketAddr,
        effects: &mut Effects,
    ) {
        for index in 0..self.questions.len() {
            if let Some(question) = self.questions.get_mut(index)
                && question.server == server
                && question.state == State::Unreachable
            {
                question.state = State::Waiting;
                question.asked_at = now;
                question.resent = 0;
                if question.channel.is_none() {
                    self.open(index, effects);
                }
            }
        }
    }

    /// Opens a socket for a question and sends it.
    fn open(&mut self, index: usize, effects: &mut Effects) {
        let Some(question) = self.questions.get_mut(index) else { return };
        let channel = self.next_channel;
        self.next_channel += 1;
        question.channel = Some(channel);
        let channel = Channel::Dns(channel);
        let query = compose_question(question.id, true, &self.name, &[question.kind]);
        let remote = question.server;
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

    /// Takes a datagram, or a piece of an answer over TCP.
    pub fn handle_received(&mut self, channel: u32, bytes: &[u8], effects: &mut Effects) {
        let Some(index) = self.position(channel) else { return };
        let Some(question) = self.questions.get_mut(index) else { return };
        let parsed = match &mut question.stream {
            None => parse_reply(bytes, question.id, &self.name, question.kind),
            Some(received) => {
                received.extend_from_slice(bytes);
                match split_tcp_answer(received) {
                    None if !bytes.is_empty() && received.len() < TCP_ANSWER_MAX => return,
                    None => Ok(Reply::Nothing),
                    // A stream that carries nonsense will not carry sense after it.
                    Some(answer) => Ok(parse_reply(answer, question.id, &self.name, question.kind)
                        .unwrap_or(Reply::Nothing)),
                }
            }
        };
        // Not an answer to our question: keep listening for one that is.
        let Ok(reply) = parsed else { return };
        let over_tcp = question.stream.is_some();
        if over_tcp || reply == Reply::Truncated {
            question.channel = None;
            effects.output(Output::Close(Channel::Dns(channel)));
        }
        match reply {
            Reply::Addresses(addresses) => {
                question.state = State::Answered;
                let scope = scope_of(question.server);
                effects.leads.extend(
                    addresses
                        .iter()
                        .map(|address| Lead::new(Origin::Dns, *address, scope, self.port)),
                );
            }
            Reply::Truncated if !over_tcp => {
                question.stream = Some(Vec::new());
                self.open(index, effects);
            }
            Reply::Nothing | Reply::Truncated => {
                question.state = State::Answered;
                effects.note(Note::ServerDenied(question.server));
            }
        }
    }

    /// Takes the failure of a socket.
    pub fn handle_failed(&mut self, channel: u32, failure: Failure, effects: &mut Effects) {
        let Some(index) = self.position(channel) else { return };
        let Some(question) = self.questions.get_mut(index) else { return };
        question.channel = None;
        if question.state == State::Waiting {
            let over_tcp = question.stream.take().is_some();
            let gone = over_tcp || failure == Failure::Broken;
            question.state = if gone { State::Answered } else { State::Unreachable };
            effects.note(Note::ServerDenied(question.server));
        }
    }

    /// Sends again what is due.
    pub fn advance(&mut self, now: Elapsed, effects: &mut Effects) {
        for index in 0..self.questions.len() {
            let Some(question) = self.questions.get_mut(index) else { return };
            if question.resend_at().is_none_or(|resend_at| now < resend_at) {
                continue;
            }
            question.resent += 1;
            match question.channel {
                None => self.open(index, effects),
                // TCP sends again by itself.
                Some(_) if question.stream.is_some() => {}
                Some(channel) => {
                    let query = compose_question(question.id, true, &self.name, &[question.kind]);
                    effects.output(Output::Send(Channel::Dns(channel), query));
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

    /// Whether every server has answered or been silent for too long.
    #[must_use]
    pub fn has_had_its_say(&self, now: Elapsed) -> bool {
        self.questions.iter().all(|question| question.silent_at(now).is_none())
    }

    /// Every channel that is open.
    pub fn open_channels(&self) -> impl Iterator<Item = Channel> + '_ {
        self.questions.iter().filter_map(|question| question.channel).map(Channel::Dns)
    }
}

impl Question {
    /// When it is to be sent again, if ever.
    fn resend_at(&self) -> Option<Elapsed> {
        let after = RESEND_AFTER.get(self.resent)?;
        (self.state != State::Answered).then(|| self.asked_at + *after)
    }

    /// When its server's silence becomes an answer, if that is still to come.
    fn silent_at(&self, now: Elapsed) -> Option<Elapsed> {
        let silent_at = self.asked_at + SILENCE_TIMEOUT;
        (self.state == State::Waiting && now < silent_at).then_some(silent_at)
    }
}

/// The answer in a TCP stream, once it is whole.
fn split_tcp_answer(received: &[u8]) -> Option<&[u8]> {
    let (length, rest) = received.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

/// The interface through which a link-local server is reached, and so the scope of its answers.
fn scope_of(server: SocketAddr) -> u32 {
    match server {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(server) => server.scope_id(),
    }
}
