//! Lies on the wire: what no search may believe, whoever says it and however.

use std::net::{IpAddr, Ipv4Addr};

use crate::support::{
    ANSWER, MULTICAST, Record, address, alias, id_of, message, name, questions, reply,
};

/// Where lies lead to: a private address, so that only disbelief keeps the search away from it.
pub const EVIL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 66, 6, 6));

/// The lie itself, about this name.
pub fn lie(owner: &[u8]) -> Record {
    address(owner, EVIL)
}

/// A DNS message that answers no question of ours, though it looks as if it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deceit {
    /// A question with an answer in it.
    NoResponse,
    /// A response to something else than a query.
    OtherOpcode,
    OtherId,
    OtherQuestion,
    OtherOwner,
    OtherClass,
    /// In the section for those who know better.
    Authority,
    /// Multicast only: what is about to be gone.
    Goodbye,
    AliasLoop,
    PointerLoop,
    ShortData,
    LongData,
    /// More records than there are.
    Counts,
    /// A part of the header.
    CutHeader,
    Empty,
}

impl Deceit {
    pub const ALL: [Self; 15] = [
        Self::NoResponse,
        Self::OtherOpcode,
        Self::OtherId,
        Self::OtherQuestion,
        Self::OtherOwner,
        Self::OtherClass,
        Self::Authority,
        Self::Goodbye,
        Self::AliasLoop,
        Self::PointerLoop,
        Self::ShortData,
        Self::LongData,
        Self::Counts,
        Self::CutHeader,
        Self::Empty,
    ];

    /// What a DNS server says to a query.
    pub fn answer(self, query: &[u8]) -> Vec<u8> {
        let owner = questions(query).remove(0).0;
        match self {
            Self::OtherQuestion => {
                let mut question = query[12..].to_vec();
                question[1] ^= 1;
                message(id_of(query), ANSWER, &question, [&[lie(&owner)], &[], &[]])
            }
            Self::Goodbye => reply(query, ANSWER, &[lie(&name("other.lan"))]),
            _ => self.make(id_of(query), ANSWER, &query[12..], &owner),
        }
    }

    /// What a machine of the LAN says when the group is asked, or unasked.
    pub fn multicast(self, question: &[u8]) -> Vec<u8> {
        let owner = name("waterbug.local");
        match self {
            // To a group neither is a reason for disbelief. RFC 6762 §6, §18.1.
            Self::OtherId | Self::OtherQuestion => {
                Self::OtherOwner.make(id_of(question), MULTICAST, &[], &owner)
            }
            _ => self.make(id_of(question), MULTICAST, &[], &owner),
        }
    }

    /// The message, to a question for `owner` that stands in it in raw form.
    fn make(self, id: u16, flags: u16, question: &[u8], owner: &[u8]) -> Vec<u8> {
        let mut record = lie(owner);
        let with = |flags, record: &[Record]| message(id, flags, question, [record, &[], &[]]);
        match self {
            Self::NoResponse => with(flags & !0x8000, &[record]),
            Self::OtherOpcode => with(flags | 0x2800, &[record]),
            Self::OtherId => message(id ^ 0x101, flags, question, [&[record], &[], &[]]),
            Self::OtherQuestion | Self::OtherOwner => with(flags, &[lie(&name("x.waterbug.lan"))]),
            Self::OtherClass => {
                record.class = 3;
                with(flags, &[record])
            }
            Self::Authority => message(id, flags, question, [&[], &[record], &[]]),
            Self::Goodbye => {
                record.ttl = 0;
                with(flags, &[record])
            }
            Self::AliasLoop => {
                let other = name("other.lan");
                with(flags, &[alias(owner, &other), alias(&other, owner)])
            }
            Self::PointerLoop => {
                let at = 12 + question.len();
                let pointer = (0xc000 | u16::try_from(at).unwrap()).to_be_bytes();
                record.owner = pointer.to_vec();
                with(flags, &[record])
            }
            Self::ShortData => {
                record.data.pop();
                with(flags, &[record])
            }
            Self::LongData => {
                let mut bytes = with(flags, &[record]);
                bytes.truncate(bytes.len() - 1);
                bytes
            }
            Self::Counts => {
                let mut bytes = with(flags, &[record]);
                bytes[6..8].copy_from_slice(&u16::MAX.to_be_bytes());
                bytes
            }
            Self::CutHeader => {
                let mut bytes = with(flags, &[record]);
                bytes.truncate(11);
                bytes
            }
            Self::Empty => Vec::new(),
        }
    }
}

/// What a DNS server says over TCP, having said that its answer is too long for anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpDeceit {
    /// It hangs up.
    Ends,
    /// It says nothing.
    Silent,
    /// It announces more than it sends.
    LengthLies,
    Endless,
    Nothing,
    /// The answer to another question.
    Other,
    TruncatedAgain,
}

impl TcpDeceit {
    pub const ALL: [Self; 7] = [
        Self::Ends,
        Self::Silent,
        Self::LengthLies,
        Self::Endless,
        Self::Nothing,
        Self::Other,
        Self::TruncatedAgain,
    ];

    /// What comes back for a query.
    pub fn pieces(self, query: &[u8]) -> Vec<Vec<u8>> {
        let with_length = |packet: Vec<u8>| {
            [&u16::try_from(packet.len()).unwrap().to_be_bytes(), &*packet].concat()
        };
        match self {
            Self::Ends => vec![Vec::new()],
            Self::Silent => Vec::new(),
            Self::LengthLies => {
                let mut bytes = with_length(reply(query, ANSWER, &[]));
                bytes[0] = 0xff;
                vec![bytes]
            }
            Self::Endless => vec![vec![0xff; 8 * 1024]; 16],
            Self::Nothing => vec![vec![0, 0]],
            Self::Other => vec![with_length(Deceit::OtherId.answer(query))],
            Self::TruncatedAgain => {
                let owner = questions(query).remove(0).0;
                vec![with_length(reply(query, crate::support::TRUNCATED, &[lie(&owner)]))]
            }
        }
    }
}

/// What a web server says that wants to pass for a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cheat {
    InterimForever,
    HeadForever,
    TwoLengths,
    TwoFramings,
    HugeChunk,
    HugeLength,
    TwoStores,
    NoStore,
    NoHead,
    /// The length ends the body before the store does.
    CutShort,
}

impl Cheat {
    pub const ALL: [Self; 10] = [
        Self::InterimForever,
        Self::HeadForever,
        Self::TwoLengths,
        Self::TwoFramings,
        Self::HugeChunk,
        Self::HugeLength,
        Self::TwoStores,
        Self::NoStore,
        Self::NoHead,
        Self::CutShort,
    ];

    /// What it sends.
    pub fn pieces(self) -> Vec<Vec<u8>> {
        let body = "StoreDir: /nix/store\n";
        let with = |fields: &str, body: &str| {
            vec![format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}").into_bytes()]
        };
        match self {
            Self::InterimForever => vec![b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(); 40],
            Self::HeadForever => {
                let mut pieces = with("X: y", "");
                pieces.extend(vec![[b"X: ", &*vec![b'y'; 1000], b"\r\n"].concat(); 40]);
                pieces
            }
            Self::TwoLengths => with("Content-Length: 21\r\nContent-Length: 20\r\n", body),
            Self::TwoFramings => with(
                "Content-Length: 21\r\nTransfer-Encoding: chunked\r\n",
                &format!("15\r\n{body}\r\n0\r\n\r\n"),
            ),
            Self::HugeChunk => {
                with("Transfer-Encoding: chunked\r\n", &format!("ffffffffffffffff\r\n{body}"))
            }
            Self::HugeLength => with("Content-Length: 99999999999999999999\r\n", body),
            Self::TwoStores => {
                with("Content-Length: 42\r\n", &format!("{body}StoreDir: /gnu/store\n"))
            }
            Self::NoStore => with("Content-Length: 17\r\n", "WantMassQuery: 1\n"),
            Self::NoHead => vec![body.into()],
            Self::CutShort => with("Content-Length: 19\r\n", body),
        }
    }
}
