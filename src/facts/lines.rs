//! Reads configuration files line by line in a few kilobytes of memory, however large they are.

use std::io::Read;

use crate::sys::{self, Error};

/// Bytes read at a time, and the longest line kept; longer ones are skipped whole.
const LINE_MAX: usize = 4096;
/// Bytes read of any one file: a hosts file that blocks a million names is about 30 MB.
const FILE_MAX: u64 = 32 << 20;

/// Calls `each` with every line of the file that is text, without its line ending.
///
/// # Errors
/// Whatever opening or reading the file gives.
pub fn for_each_line(path: &str, each: &mut dyn FnMut(&str)) -> sys::Result<()> {
    for_each_line_of(sys::open(path, FILE_MAX)?, each)
}

/// The same for any source of bytes.
fn for_each_line_of(mut source: impl Read, each: &mut dyn FnMut(&str)) -> sys::Result<()> {
    let mut buffer = [0; LINE_MAX];
    let mut kept = 0;
    let mut skipping = false;
    loop {
        let space = buffer.get_mut(kept..).unwrap_or_default();
        let count = match source.read(space).map_err(Error::from) {
            Ok(count) => count,
            Err(Error(libc::EINTR)) => continue,
            Err(error) => return Err(error),
        };
        let filled = kept + count;
        let mut rest = buffer.get(..filled).unwrap_or_default();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            if !skipping {
                give(line, each);
            }
            skipping = false;
            rest = after.get(1..).unwrap_or_default();
        }
        if count == 0 {
            if !skipping && !rest.is_empty() {
                give(rest, each);
            }
            return Ok(());
        }
        kept = if rest.len() == LINE_MAX || skipping {
            skipping = true;
            0
        } else {
            rest.len()
        };
        buffer.copy_within(filled - kept..filled, 0);
    }
}

/// Hands on a line that is text, or what stands before a comment in Latin-1.
fn give(line: &[u8], each: &mut dyn FnMut(&str)) {
    let before = || {
        let end = line.iter().position(|byte| *byte == b'#')?;
        str::from_utf8(line.get(..end)?).ok()
    };
    if let Some(text) = str::from_utf8(line).ok().or_else(before) {
        each(text.strip_suffix('\r').unwrap_or(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes in pieces of one size.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.min(self.0.len()).min(into.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn lines_come_whole_whatever_the_pieces() {
        let long = "x".repeat(LINE_MAX);
        let text = format!("a\r\n\n{long}y\nb c\n{long}{long}{long}\nlast");
        for piece in [1, 2, 3, 7, 100, LINE_MAX - 1, LINE_MAX, 100_000] {
            let mut lines = Vec::new();
            for_each_line_of(Drip(text.as_bytes(), piece), &mut |line| lines.push(line.to_owned()))
                .unwrap();
            assert_eq!(lines, ["a", "", "b c", "last"], "pieces of {piece}");
        }
    }

    #[test]
    fn a_line_is_text_but_for_its_comment() {
        let mut lines = Vec::new();
        let text: &[u8] = b"a # B\xfcro\nb\xfcro # c\n\xfc\nd";
        for_each_line_of(text, &mut |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["a ", "d"]);
    }
}
