//! The `nix-cache-info` file, which tells that a web server is a Nix binary cache.

use super::Malformed;

/// The only store a NixOS machine can use.
const STORE_DIR: &str = "/nix/store";

/// Whether `body` describes a binary cache for `/nix/store`.
///
/// Read as Nix does (`src/libstore/binary-cache-store.cc`): split at newlines, lines without a
/// colon skipped, values trimmed. Stricter in one thing: every `StoreDir` given must be ours.
///
/// # Errors
/// `Malformed` when there is no `StoreDir` at all, or the body is not text.
pub fn parse(body: &[u8]) -> Result<CacheInfo, Malformed> {
    let text = str::from_utf8(body).map_err(|_| Malformed)?;
    let mut info = Err(Malformed);
    for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
        if key.trim_ascii() == "StoreDir" {
            if value.trim_ascii() != STORE_DIR {
                return Ok(CacheInfo::OtherStore);
            }
            info = Ok(CacheInfo::NixStore);
        }
    }
    info
}

/// Which store a binary cache serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheInfo {
    /// `/nix/store`: ours.
    NixStore,
    /// A store elsewhere, whose paths are of no use here.
    OtherStore,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cache_for_nix_store_is_one() {
        let attic = b"WantMassQuery: 1\nStoreDir: /nix/store\nPriority: 41\n";
        assert_eq!(parse(attic), Ok(CacheInfo::NixStore));
        assert_eq!(parse(b"noise\r\nStoreDir:/nix/store\r\n"), Ok(CacheInfo::NixStore));
        assert_eq!(parse(b"StoreDir: /gnu/store\n"), Ok(CacheInfo::OtherStore));
        assert_eq!(parse(b"StoreDir: /nix/store\nStoreDir: /x\n"), Ok(CacheInfo::OtherStore));
        for bad in [b"".as_slice(), b"Priority: 1\n", b"<html>/nix/store</html>", b"\xff"] {
            assert_eq!(parse(bad), Err(Malformed));
        }
    }
}
