//! Just enough HTTP/1.1 (RFC 9112) to ask one question and to judge the answer.

use super::Malformed;
use crate::text::is_same_word;

/// Bytes of a response's head, interim responses included.
const HEAD_MAX: usize = 16 * 1024;
/// Bytes of a response's body; a `nix-cache-info` has about seventy.
const BODY_MAX: usize = 16 * 1024;
/// Interim (1xx) responses that may come first.
const INTERIM_MAX: usize = 5;
/// Bytes of a chunk's size line: sixteen digits and a short extension.
const CHUNK_LINE_MAX: usize = 256;
/// Bytes that a caller must be ready to collect: head, body, and the body's framing.
pub const RESPONSE_MAX: usize = HEAD_MAX + 2 * BODY_MAX;

/// A final response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code, 200 to 999.
    pub status: u16,
    /// The body, framing removed; empty unless the status is 200.
    pub body: Vec<u8>,
}

/// A GET of `target` from `host` (with its port): nothing kept alive, compressed or cached.
#[must_use]
pub fn compose_get(target: &str, host: &str) -> Vec<u8> {
    [
        "GET ",
        target,
        " HTTP/1.1\r\nHost: ",
        host,
        "\r\nUser-Agent: cache-resolver\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n",
    ]
    .concat()
    .into_bytes()
}

/// Reads what has been `received` so far; `closed` when no more will come.
///
/// `Ok(None)` asks for more. A status other than 200 is final as soon as its line is there.
///
/// # Errors
/// `Malformed` for what is not HTTP, contradicts itself, is cut short or exceeds the bounds.
pub fn parse_response(received: &[u8], closed: bool) -> Result<Option<Response>, Malformed> {
    let mut rest = received;
    for _ in 0..=INTERIM_MAX {
        let Some((line, after)) = split_line(rest, HEAD_MAX)? else {
            return incomplete(closed);
        };
        let status = parse_status_line(line)?;
        if status > 200 {
            return Ok(Some(Response { status, body: Vec::new() }));
        }
        let Some((framing, body)) = parse_fields(after)? else {
            return incomplete(closed);
        };
        if received.len() - body.len() > HEAD_MAX {
            return Err(Malformed);
        }
        if status == 200 {
            let body = parse_body(&framing, body, closed)?;
            return Ok(body.map(|body| Response { status, body }));
        }
        rest = body;
    }
    Err(Malformed)
}

/// More is needed, or it is too late for that.
fn incomplete<T>(closed: bool) -> Result<Option<T>, Malformed> {
    if closed { Err(Malformed) } else { Ok(None) }
}

/// A line without its ending, and what follows it.
type LineAndRest<'a> = (&'a [u8], &'a [u8]);

/// Splits off one line, its `\r\n` or bare `\n` removed (RFC 9112 §2.2).
fn split_line(bytes: &[u8], max: usize) -> Result<Option<LineAndRest<'_>>, Malformed> {
    match bytes.iter().take(max).position(|byte| *byte == b'\n') {
        Some(end) => {
            let (line, rest) = bytes.split_at(end);
            Ok(Some((line.strip_suffix(b"\r").unwrap_or(line), rest.get(1..).ok_or(Malformed)?)))
        }
        None if bytes.len() >= max => Err(Malformed),
        None => Ok(None),
    }
}

/// The code in `HTTP/1.x NNN reason`.
fn parse_status_line(line: &[u8]) -> Result<u16, Malformed> {
    let rest = line.strip_prefix(b"HTTP/1.").ok_or(Malformed)?;
    let [b'0' | b'1', b' ', code @ ..] = rest else {
        return Err(Malformed);
    };
    let (digits, reason) = code.split_at_checked(3).ok_or(Malformed)?;
    let status = parse_number(digits, 10)?;
    if status < 100 || !matches!(reason.first(), None | Some(b' ')) {
        return Err(Malformed);
    }
    u16::try_from(status).map_err(|_| Malformed)
}

/// How the end of the body is known. RFC 9112 §6.3.
enum Framing {
    /// So many bytes.
    Length(usize),
    /// In chunks, the last one empty.
    Chunked,
    /// All until the connection is closed.
    UntilClose,
}

/// Reads header fields up to the empty line; `None` when that has not come.
fn parse_fields(mut rest: &[u8]) -> Result<Option<(Framing, &[u8])>, Malformed> {
    let mut framing = Framing::UntilClose;
    loop {
        let Some((line, after)) = split_line(rest, HEAD_MAX)? else {
            return Ok(None);
        };
        rest = after;
        if line.is_empty() {
            return Ok(Some((framing, rest)));
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Malformed)?;
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).ok_or(Malformed)?.trim_ascii();
        if is_same_word(name, b"content-length") {
            let length = parse_number(value, 10)?;
            framing = match framing {
                Framing::UntilClose => Framing::Length(length),
                Framing::Length(before) if before == length => framing,
                // Two framings are how requests are smuggled. RFC 9112 §6.3.
                _ => return Err(Malformed),
            };
        } else if is_same_word(name, b"transfer-encoding") {
            if !matches!(framing, Framing::UntilClose) || !is_same_word(value, b"chunked") {
                return Err(Malformed);
            }
            framing = Framing::Chunked;
        }
    }
}

/// The body without its framing; `None` when more must come.
fn parse_body(framing: &Framing, bytes: &[u8], closed: bool) -> Result<Option<Vec<u8>>, Malformed> {
    match framing {
        Framing::Chunked => parse_chunks(bytes, closed),
        Framing::Length(length) if *length > BODY_MAX => Err(Malformed),
        Framing::Length(length) => match bytes.get(..*length) {
            Some(body) => Ok(Some(body.to_vec())),
            None => incomplete(closed),
        },
        Framing::UntilClose if bytes.len() > BODY_MAX => Err(Malformed),
        Framing::UntilClose if closed => Ok(Some(bytes.to_vec())),
        Framing::UntilClose => Ok(None),
    }
}

/// Joins chunks up to the empty one; trailers are of no interest. RFC 9112 §7.1.
fn parse_chunks(mut rest: &[u8], closed: bool) -> Result<Option<Vec<u8>>, Malformed> {
    let mut body = Vec::new();
    loop {
        let Some((line, after)) = split_line(rest, CHUNK_LINE_MAX)? else {
            return incomplete(closed);
        };
        let digits = line.split(|byte| *byte == b';').next().unwrap_or(line).trim_ascii_end();
        let size = parse_number(digits, 16)?;
        if size == 0 {
            return Ok(Some(body));
        }
        if size > BODY_MAX - body.len() {
            return Err(Malformed);
        }
        let Some((chunk, after)) = after.split_at_checked(size) else {
            return incomplete(closed);
        };
        body.extend_from_slice(chunk);
        rest = match after {
            [b'\n', rest @ ..] | [b'\r', b'\n', rest @ ..] => rest,
            [] | [b'\r'] => return incomplete(closed),
            _ => return Err(Malformed),
        };
    }
}

/// A number of digits only: no sign, no space, at least one.
fn parse_number(digits: &[u8], radix: u32) -> Result<usize, Malformed> {
    if digits.is_empty() {
        return Err(Malformed);
    }
    let number = digits.iter().try_fold(0_usize, |number, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        number.checked_mul(radix as usize)?.checked_add(digit as usize)
    });
    number.ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body of a response that is whole, with or without the connection's end.
    fn body(received: &str, closed: bool) -> Result<Option<String>, Malformed> {
        let response = parse_response(received.as_bytes(), closed)?;
        Ok(response.map(|response| String::from_utf8(response.body).unwrap()))
    }

    #[test]
    fn every_framing_ends_where_it_says() {
        for (received, closed) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and more", false),
            ("HTTP/1.0 200\nContent-Length: 2\nContent-Length: 2\n\nhi", false),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1;x=y\r\nh\r\n1\r\ni\r\n0\r\n",
                false,
            ),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhi", true),
            ("HTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhi", true),
        ] {
            assert_eq!(body(received, closed), Ok(Some("hi".into())), "{received}");
            for cut in 0..received.len() {
                let early = parse_response(&received.as_bytes()[..cut], false);
                assert!(matches!(early, Ok(None | Some(Response { status: 200, .. }))), "{cut}");
            }
        }
    }

    #[test]
    fn bounds_are_kept_to_the_byte() {
        for (head_length, body_length, is_good) in [
            (10_000, 10_000, true),
            (HEAD_MAX, BODY_MAX, true),
            (HEAD_MAX + 1, 2, false),
            (HEAD_MAX, BODY_MAX + 1, false),
        ] {
            let content = "b".repeat(body_length);
            let chunks = format!("1\r\nb\r\n{:x}\r\n{}\r\n0\r\n", body_length - 1, &content[1..]);
            for (field, framed) in [
                (String::new(), &content),
                (format!("Content-Length: {body_length}\r\n"), &content),
                ("Transfer-Encoding: chunked\r\n".to_owned(), &chunks),
            ] {
                let start = format!("HTTP/1.1 200 OK\r\n{field}X: ");
                let rest = "x".repeat(head_length - start.len() - 4);
                let received = format!("{start}{rest}\r\n\r\n{framed}");
                let expected = if is_good { Ok(Some(content.clone())) } else { Err(Malformed) };
                assert!(received.len() <= RESPONSE_MAX);
                assert_eq!(body(&received, true), expected, "{head_length} {body_length} {field}");
            }
        }
        assert_eq!(RESPONSE_MAX, 48 << 10);
    }

    #[test]
    fn other_statuses_are_final_at_once() {
        for status in [204, 301, 307, 400, 401, 403, 404, 500, 999] {
            let head = format!("HTTP/1.1 {status} No\r\n");
            let response = parse_response(head.as_bytes(), false).unwrap().unwrap();
            assert_eq!(response.status, status);
        }
    }

    #[test]
    fn contradictions_and_excess_are_refused() {
        let head = "HTTP/1.1 200 OK\r\n";
        let many = "HTTP/1.1 100 Continue\r\n\r\n".repeat(INTERIM_MAX + 1);
        for bad in [
            "SSH-2.0-OpenSSH_9.9\r\n".to_owned(),
            "HTTP/2 200\r\n".to_owned(),
            "HTTP/1.1 20x\r\n".to_owned(),
            "HTTP/1.1 099\r\n".to_owned(),
            "HTTP/1.1 2000 OK\r\n".to_owned(),
            format!("{head}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            format!("{head}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            format!("{head}Content-Length: +1\r\n\r\nx"),
            format!("{head}Content-Length: 99999999999999999999\r\n\r\nx"),
            format!("{head}Content-Length: 18446744073709551617\r\n\r\nx"), // 2^64 + 1
            format!("{head}Content-Length:\r\n\r\nx"),
            format!("{head}Content-Length: {}\r\n\r\nx", BODY_MAX + 1),
            format!("{head}Transfer-Encoding: gzip\r\n\r\nx"),
            format!("{head}Transfer-Encoding: chunked\r\n\r\nffff\r\n"),
            format!("{head}Transfer-Encoding: chunked\r\n\r\n1\r\nxx"),
            format!("{head}no colon\r\n\r\n"),
            format!("{head}X: {}\r\n\r\n", "x".repeat(HEAD_MAX)),
            format!("{head}{}\r\n", "X: y\r\n".repeat(HEAD_MAX / 6)),
            format!("{head}\r\n{}", "x".repeat(BODY_MAX + 1)),
            format!("{many}{head}Content-Length: 0\r\n\r\n"),
        ] {
            assert_eq!(body(&bad, false), Err(Malformed), "{}", &bad[..bad.len().min(80)]);
        }
        let short = format!("{head}Content-Length: 3\r\n\r\nhi");
        assert_eq!(body(&short, true), Err(Malformed), "cut short");
    }
}
